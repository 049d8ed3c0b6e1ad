WITH per_user AS (
  SELECT
    state_1.window_start AS window_start,
    state_1.country AS country,
    state_1.subscription_plan AS subscription_plan,
    state_1.user_id AS user_id,
    state_1.sessions AS sessions,
    state_1.watch_minutes AS watch_minutes,
    state_1.progress AS progress,
    state_1.progress_known AS progress_known,
    state_1.low_engagement AS low_engagement,
    state_1.downgraded AS downgraded,
    state_1.abandoned AS abandoned,
    state_1.completed AS completed,
    state_1.at_risk AS at_risk,
    state_1.monthly_spend AS monthly_spend
  FROM (
    SELECT
      window_start,
      country,
      subscription_plan,
      user_id,
      sessions__count AS sessions,
      watch_minutes__sum AS watch_minutes,
      progress__sum AS progress,
      progress_known__count AS progress_known,
      low_engagement__sum AS low_engagement,
      downgraded__sum AS downgraded,
      abandoned__sum AS abandoned,
      completed__count AS completed,
      at_risk__count AS at_risk,
      monthly_spend__max AS monthly_spend
    FROM state_1
  ) AS state_1
)
SELECT
  per_user.window_start AS window_start,
  per_user.country AS country,
  per_user.subscription_plan AS subscription_plan,
  CAST(CAST(SUM(per_user.sessions) AS BIGNUMERIC) AS INT64) AS sessions,
  COUNT(per_user.user_id) AS active_users,
  CAST(SUM(per_user.watch_minutes) AS BIGNUMERIC) AS watch_minutes,
  CAST(SUM(per_user.progress) AS BIGNUMERIC) AS progress_sum,
  CAST(CAST(SUM(per_user.progress_known) AS BIGNUMERIC) AS INT64) AS progress_known,
  CAST(CAST(SUM(per_user.low_engagement) AS BIGNUMERIC) AS INT64) AS low_engagement_sessions,
  CAST(CAST(SUM(per_user.downgraded) AS BIGNUMERIC) AS INT64) AS downgraded_sessions,
  CAST(CAST(SUM(per_user.abandoned) AS BIGNUMERIC) AS INT64) AS abandoned_sessions,
  CAST(CAST(SUM(per_user.completed) AS BIGNUMERIC) AS INT64) AS completed_sessions,
  CAST(CAST(SUM(per_user.at_risk) AS BIGNUMERIC) AS INT64) AS sessions_at_risk,
  COALESCE(
    CAST(SUM(CASE WHEN per_user.at_risk > 0 THEN per_user.monthly_spend END) AS BIGNUMERIC),
    0
  ) AS revenue_at_risk
FROM per_user AS per_user
GROUP BY
  per_user.window_start,
  per_user.country,
  per_user.subscription_plan
