SELECT
  day,
  device_type,
  quality,
  distinct__tag,
  active_users,
  COALESCE(CAST(SUM(sessions__count) AS BIGINT), 0) AS sessions__count,
  CAST(SUM(watch_minutes__sum) AS DECIMAL(38, 2)) AS watch_minutes__sum,
  CAST(SUM(avg_progress__sum) AS DECIMAL(38, 2)) AS avg_progress__sum,
  COALESCE(CAST(SUM(avg_progress__count) AS BIGINT), 0) AS avg_progress__count,
  COALESCE(CAST(SUM(value_5__count) AS BIGINT), 0) AS value_5__count,
  COALESCE(CAST(SUM(value_6__count) AS BIGINT), 0) AS value_6__count
FROM states
GROUP BY
  day,
  device_type,
  quality,
  distinct__tag,
  active_users
