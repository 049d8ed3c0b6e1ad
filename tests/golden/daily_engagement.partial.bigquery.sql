SELECT
  DATETIME_TRUNC(CAST(event_time AS DATETIME), DAY) AS day,
  users__country AS country,
  users__subscription_plan AS subscription_plan,
  device_type AS device_type,
  movies__content_type AS content_type,
  COUNT(*) AS sessions__count,
  CAST(SUM(watch_duration_minutes) AS BIGNUMERIC) AS watch_minutes__sum,
  COUNT(CASE WHEN action = 'completed' THEN 1 END) AS completed_sessions__count,
  COUNT(CASE WHEN action = 'stopped' AND progress_percentage < 50 THEN 1 END) AS abandoned_sessions__count,
  CAST(SUM(progress_percentage) AS BIGNUMERIC) AS progress_sum__sum,
  COUNT(progress_percentage) AS progress_known__count
FROM events
GROUP BY
  DATETIME_TRUNC(CAST(event_time AS DATETIME), DAY),
  users__country,
  users__subscription_plan,
  device_type,
  movies__content_type
