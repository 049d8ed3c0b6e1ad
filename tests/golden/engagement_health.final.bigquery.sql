WITH per_user AS (
  SELECT
    state_1.window_start AS window_start,
    state_1.country AS country,
    state_1.genre AS genre,
    state_1.device_type AS device_type,
    state_1.quality AS quality,
    state_1.content_type AS content_type,
    state_1.user_id AS user_id,
    state_1.sessions AS sessions,
    state_1.watch_minutes AS watch_minutes,
    state_1.progress AS progress,
    state_1.progress_known AS progress_known,
    state_1.low_engagement AS low_engagement,
    state_1.downgraded AS downgraded,
    state_1.abandoned AS abandoned,
    state_1.at_risk AS at_risk,
    state_1.monthly_spend AS monthly_spend
  FROM (
    SELECT
      window_start,
      country,
      genre,
      device_type,
      quality,
      content_type,
      user_id,
      sessions__count AS sessions,
      watch_minutes__sum AS watch_minutes,
      progress__sum AS progress,
      progress_known__count AS progress_known,
      low_engagement__sum AS low_engagement,
      downgraded__sum AS downgraded,
      abandoned__sum AS abandoned,
      at_risk__count AS at_risk,
      monthly_spend__max AS monthly_spend
    FROM state_1
  ) AS state_1
), windows AS (
  SELECT
    per_user.window_start AS window_start,
    per_user.country AS country,
    per_user.genre AS genre,
    per_user.device_type AS device_type,
    per_user.quality AS quality,
    per_user.content_type AS content_type,
    CAST(CAST(SUM(per_user.sessions) AS BIGNUMERIC) AS INT64) AS sessions,
    COUNT(per_user.user_id) AS active_users,
    CAST(SUM(per_user.watch_minutes) AS BIGNUMERIC) AS watch_minutes,
    CAST(CAST(SUM(per_user.progress) AS BIGNUMERIC) AS FLOAT64) / NULLIF(
      CAST(CAST(CAST(SUM(per_user.progress_known) AS BIGNUMERIC) AS INT64) AS FLOAT64),
      0
    ) AS avg_progress,
    CAST(CAST(CAST(SUM(per_user.low_engagement) AS BIGNUMERIC) AS INT64) AS FLOAT64) / NULLIF(CAST(CAST(CAST(SUM(per_user.sessions) AS BIGNUMERIC) AS INT64) AS FLOAT64), 0) AS low_engagement_rate,
    CAST(CAST(CAST(SUM(per_user.downgraded) AS BIGNUMERIC) AS INT64) AS FLOAT64) / NULLIF(CAST(CAST(CAST(SUM(per_user.sessions) AS BIGNUMERIC) AS INT64) AS FLOAT64), 0) AS quality_downgrade_rate,
    CAST(CAST(CAST(SUM(per_user.abandoned) AS BIGNUMERIC) AS INT64) AS FLOAT64) / NULLIF(CAST(CAST(CAST(SUM(per_user.sessions) AS BIGNUMERIC) AS INT64) AS FLOAT64), 0) AS abandoned_rate,
    CAST(CAST(SUM(per_user.at_risk) AS BIGNUMERIC) AS INT64) AS at_risk,
    CAST(CAST(CAST(SUM(per_user.at_risk) AS BIGNUMERIC) AS INT64) AS FLOAT64) / NULLIF(CAST(CAST(CAST(SUM(per_user.sessions) AS BIGNUMERIC) AS INT64) AS FLOAT64), 0) AS churn_rate,
    COALESCE(
      CAST(SUM(CASE WHEN per_user.at_risk > 0 THEN per_user.monthly_spend END) AS BIGNUMERIC),
      0
    ) AS revenue_impact
  FROM per_user AS per_user
  GROUP BY
    per_user.window_start,
    per_user.country,
    per_user.genre,
    per_user.device_type,
    per_user.quality,
    per_user.content_type
)
SELECT
  windows.window_start AS window_start,
  windows.country AS country,
  windows.genre AS genre,
  windows.device_type AS device_type,
  windows.quality AS quality,
  windows.content_type AS content_type,
  windows.sessions AS sessions,
  windows.active_users AS active_users,
  windows.watch_minutes AS watch_minutes,
  windows.avg_progress AS avg_progress,
  windows.low_engagement_rate AS low_engagement_rate,
  windows.quality_downgrade_rate AS quality_downgrade_rate,
  windows.abandoned_rate AS abandoned_rate,
  windows.churn_rate AS churn_rate,
  windows.revenue_impact AS revenue_impact,
  CASE
    WHEN 5 * windows.at_risk >= 2 * windows.sessions + 10
    THEN 'HIGH'
    WHEN 5 * windows.at_risk >= 2 * windows.sessions AND windows.revenue_impact >= 200
    THEN 'HIGH'
    WHEN 5 * windows.at_risk >= 2 * windows.sessions AND windows.revenue_impact >= 30
    THEN 'MEDIUM'
    ELSE 'LOW'
  END AS alert_level
FROM windows AS windows
