SELECT
  state_1.day AS day,
  state_1.country AS country,
  state_1.subscription_plan AS subscription_plan,
  state_1.device_type AS device_type,
  state_1.content_type AS content_type,
  state_1.sessions AS sessions,
  state_1.watch_minutes AS watch_minutes,
  state_1.completed_sessions AS completed_sessions,
  state_1.abandoned_sessions AS abandoned_sessions,
  state_1.progress_sum AS progress_sum,
  state_1.progress_known AS progress_known
FROM (
  SELECT
    day,
    country,
    subscription_plan,
    device_type,
    content_type,
    sessions__count AS sessions,
    watch_minutes__sum AS watch_minutes,
    completed_sessions__count AS completed_sessions,
    abandoned_sessions__count AS abandoned_sessions,
    progress_sum__sum AS progress_sum,
    progress_known__count AS progress_known
  FROM state_1
) AS state_1
