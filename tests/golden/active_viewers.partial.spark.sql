SELECT
  CAST(TIMESTAMP_MICROS(
    UNIX_MICROS(CAST(event_time AS TIMESTAMP_LTZ)) - PMOD(UNIX_MICROS(CAST(event_time AS TIMESTAMP_LTZ)) - 946857600000000, 300000000)
  ) AS TIMESTAMP_NTZ) AS window_start,
  users__country AS country,
  users__subscription_plan AS subscription_plan,
  user_id AS user_id,
  COUNT(*) AS sessions__count,
  CAST(SUM(watch_duration_minutes) AS DECIMAL(38, 2)) AS watch_minutes__sum,
  CAST(SUM(progress_percentage) AS DECIMAL(38, 2)) AS progress__sum,
  COUNT(progress_percentage) AS progress_known__count,
  CAST(SUM(CASE WHEN progress_percentage < 20 THEN 1 ELSE 0 END) AS BIGINT) AS low_engagement__sum,
  CAST(SUM(CASE WHEN quality IN ('SD', 'HD') THEN 1 ELSE 0 END) AS BIGINT) AS downgraded__sum,
  CAST(SUM(CASE WHEN action = 'stopped' AND progress_percentage < 50 THEN 1 ELSE 0 END) AS BIGINT) AS abandoned__sum,
  COUNT(CASE WHEN action = 'completed' THEN 1 END) AS completed__count,
  COUNT(
    CASE
      WHEN CASE WHEN progress_percentage < 20 THEN 1 ELSE 0 END + CASE WHEN quality IN ('SD', 'HD') THEN 1 ELSE 0 END + CASE WHEN action = 'stopped' AND progress_percentage < 50 THEN 1 ELSE 0 END >= 2
      THEN 1
    END
  ) AS at_risk__count,
  MAX(users__monthly_spend) AS monthly_spend__max
FROM events
GROUP BY
  CAST(TIMESTAMP_MICROS(
    UNIX_MICROS(CAST(event_time AS TIMESTAMP_LTZ)) - PMOD(UNIX_MICROS(CAST(event_time AS TIMESTAMP_LTZ)) - 946857600000000, 300000000)
  ) AS TIMESTAMP_NTZ),
  users__country,
  users__subscription_plan,
  user_id
