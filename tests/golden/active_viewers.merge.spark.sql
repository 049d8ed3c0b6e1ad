SELECT
  window_start,
  country,
  subscription_plan,
  user_id,
  COALESCE(CAST(SUM(sessions__count) AS BIGINT), 0) AS sessions__count,
  CAST(SUM(watch_minutes__sum) AS DECIMAL(38, 2)) AS watch_minutes__sum,
  CAST(SUM(progress__sum) AS DECIMAL(38, 2)) AS progress__sum,
  COALESCE(CAST(SUM(progress_known__count) AS BIGINT), 0) AS progress_known__count,
  CAST(SUM(low_engagement__sum) AS BIGINT) AS low_engagement__sum,
  CAST(SUM(downgraded__sum) AS BIGINT) AS downgraded__sum,
  CAST(SUM(abandoned__sum) AS BIGINT) AS abandoned__sum,
  COALESCE(CAST(SUM(completed__count) AS BIGINT), 0) AS completed__count,
  COALESCE(CAST(SUM(at_risk__count) AS BIGINT), 0) AS at_risk__count,
  MAX(monthly_spend__max) AS monthly_spend__max
FROM states
GROUP BY
  window_start,
  country,
  subscription_plan,
  user_id
