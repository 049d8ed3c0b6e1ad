SELECT
  state_1.day AS day,
  state_1.device_type AS device_type,
  state_1.quality AS quality,
  state_1.sessions AS sessions,
  state_1.active_users AS active_users,
  state_1.watch_minutes AS watch_minutes,
  state_1.avg_progress AS avg_progress,
  CAST(state_1.value_5 AS FLOAT64) / NULLIF(CAST(state_1.sessions AS FLOAT64), 0) AS completed_rate,
  CAST(state_1.value_6 AS FLOAT64) / NULLIF(CAST(state_1.sessions AS FLOAT64), 0) AS download_rate
FROM (
  SELECT
    DATETIME_TRUNC(CAST(event_time AS DATETIME), DAY) AS day,
    device_type AS device_type,
    quality AS quality,
    COUNT(*) AS sessions,
    COUNT(DISTINCT user_id) AS active_users,
    CAST(SUM(watch_duration_minutes) AS BIGNUMERIC) AS watch_minutes,
    CAST(CAST(SUM(progress_percentage) AS BIGNUMERIC) AS FLOAT64) / NULLIF(CAST(COUNT(progress_percentage) AS FLOAT64), 0) AS avg_progress,
    COUNT(CASE WHEN action = 'completed' THEN 1 END) AS value_5,
    COUNT(CASE WHEN is_download THEN 1 END) AS value_6
  FROM (
    SELECT
      e.event_time,
      e.user_id,
      e.device_type,
      e.watch_duration_minutes,
      e.progress_percentage,
      e.action,
      e.quality,
      e.is_download
    FROM playback AS e
  ) AS events
  GROUP BY
    DATETIME_TRUNC(CAST(event_time AS DATETIME), DAY),
    device_type,
    quality
) AS state_1
