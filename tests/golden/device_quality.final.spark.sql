SELECT
  state_1.day AS day,
  state_1.device_type AS device_type,
  state_1.quality AS quality,
  state_1.sessions AS sessions,
  state_1.active_users AS active_users,
  state_1.watch_minutes AS watch_minutes,
  state_1.avg_progress AS avg_progress,
  CAST(state_1.value_5 AS DOUBLE) / NULLIF(CAST(state_1.sessions AS DOUBLE), 0) AS completed_rate,
  CAST(state_1.value_6 AS DOUBLE) / NULLIF(CAST(state_1.sessions AS DOUBLE), 0) AS download_rate
FROM (
  SELECT
    day,
    device_type,
    quality,
    sessions__count AS sessions,
    COALESCE(active_users, 0) AS active_users,
    watch_minutes__sum AS watch_minutes,
    CAST(avg_progress__sum AS DOUBLE) / NULLIF(CAST(avg_progress__count AS DOUBLE), 0) AS avg_progress,
    value_5__count AS value_5,
    value_6__count AS value_6
  FROM (
    SELECT
      day,
      device_type,
      quality,
      COUNT(active_users) AS active_users,
      COALESCE(CAST(SUM(sessions__count) AS BIGINT), 0) AS sessions__count,
      CAST(SUM(watch_minutes__sum) AS DECIMAL(38, 2)) AS watch_minutes__sum,
      CAST(SUM(avg_progress__sum) AS DECIMAL(38, 2)) AS avg_progress__sum,
      COALESCE(CAST(SUM(avg_progress__count) AS BIGINT), 0) AS avg_progress__count,
      COALESCE(CAST(SUM(value_5__count) AS BIGINT), 0) AS value_5__count,
      COALESCE(CAST(SUM(value_6__count) AS BIGINT), 0) AS value_6__count
    FROM state_1
    GROUP BY
      day,
      device_type,
      quality
  ) AS merged
) AS state_1
