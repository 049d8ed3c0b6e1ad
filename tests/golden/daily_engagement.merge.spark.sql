SELECT
  day,
  country,
  subscription_plan,
  device_type,
  content_type,
  COALESCE(CAST(SUM(sessions__count) AS BIGINT), 0) AS sessions__count,
  CAST(SUM(watch_minutes__sum) AS DECIMAL(38, 2)) AS watch_minutes__sum,
  COALESCE(CAST(SUM(completed_sessions__count) AS BIGINT), 0) AS completed_sessions__count,
  COALESCE(CAST(SUM(abandoned_sessions__count) AS BIGINT), 0) AS abandoned_sessions__count,
  CAST(SUM(progress_sum__sum) AS DECIMAL(38, 2)) AS progress_sum__sum,
  COALESCE(CAST(SUM(progress_known__count) AS BIGINT), 0) AS progress_known__count
FROM states
GROUP BY
  day,
  country,
  subscription_plan,
  device_type,
  content_type
