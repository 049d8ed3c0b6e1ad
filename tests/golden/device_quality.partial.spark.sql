SELECT
  CAST(DATE_TRUNC('DAY', event_time) AS TIMESTAMP_NTZ) AS day,
  device_type AS device_type,
  quality AS quality,
  0 AS distinct__tag,
  CAST(NULL AS STRING) AS active_users,
  COUNT(*) AS sessions__count,
  CAST(SUM(watch_duration_minutes) AS DECIMAL(38, 2)) AS watch_minutes__sum,
  CAST(SUM(progress_percentage) AS DECIMAL(38, 2)) AS avg_progress__sum,
  COUNT(progress_percentage) AS avg_progress__count,
  COUNT(CASE WHEN action = 'completed' THEN 1 END) AS value_5__count,
  COUNT(CASE WHEN is_download THEN 1 END) AS value_6__count
FROM events
GROUP BY
  CAST(DATE_TRUNC('DAY', event_time) AS TIMESTAMP_NTZ),
  device_type,
  quality
UNION ALL
SELECT
  CAST(DATE_TRUNC('DAY', event_time) AS TIMESTAMP_NTZ) AS day,
  device_type AS device_type,
  quality AS quality,
  1 AS distinct__tag,
  user_id AS active_users,
  CAST(NULL AS BIGINT) AS sessions__count,
  CAST(NULL AS DECIMAL(38, 2)) AS watch_minutes__sum,
  CAST(NULL AS DECIMAL(38, 2)) AS avg_progress__sum,
  CAST(NULL AS BIGINT) AS avg_progress__count,
  CAST(NULL AS BIGINT) AS value_5__count,
  CAST(NULL AS BIGINT) AS value_6__count
FROM events
WHERE
  (
    NOT user_id IS NULL
  )
GROUP BY
  CAST(DATE_TRUNC('DAY', event_time) AS TIMESTAMP_NTZ),
  device_type,
  quality,
  user_id
