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
      TIME_BUCKET(INTERVAL '5' MINUTES, event_time) AS window_start,
      users__country AS country,
      users__subscription_plan AS subscription_plan,
      user_id AS user_id,
      COUNT(*) AS sessions,
      CAST(SUM(watch_duration_minutes) AS DECIMAL(38, 2)) AS watch_minutes,
      CAST(SUM(progress_percentage) AS DECIMAL(38, 2)) AS progress,
      COUNT(progress_percentage) AS progress_known,
      CAST(SUM(CASE WHEN progress_percentage < 20 THEN 1 ELSE 0 END) AS BIGINT) AS low_engagement,
      CAST(SUM(CASE WHEN quality IN ('SD', 'HD') THEN 1 ELSE 0 END) AS BIGINT) AS downgraded,
      CAST(SUM(CASE WHEN action = 'stopped' AND progress_percentage < 50 THEN 1 ELSE 0 END) AS BIGINT) AS abandoned,
      COUNT(CASE WHEN action = 'completed' THEN 1 END) AS completed,
      COUNT(
        CASE
          WHEN CASE WHEN progress_percentage < 20 THEN 1 ELSE 0 END + CASE WHEN quality IN ('SD', 'HD') THEN 1 ELSE 0 END + CASE WHEN action = 'stopped' AND progress_percentage < 50 THEN 1 ELSE 0 END >= 2
          THEN 1
        END
      ) AS at_risk,
      MAX(users__monthly_spend) AS monthly_spend
    FROM (
      SELECT
        e.event_time,
        e.user_id,
        e.watch_duration_minutes,
        e.progress_percentage,
        e.action,
        e.quality,
        users.country AS users__country,
        users.monthly_spend AS users__monthly_spend,
        users.subscription_plan AS users__subscription_plan,
        NOT users.user_id IS NULL AS users__found
      FROM playback AS e
      LEFT JOIN users AS users
        ON e.user_id = users.user_id
    ) AS events
    GROUP BY
      TIME_BUCKET(INTERVAL '5' MINUTES, event_time),
      users__country,
      users__subscription_plan,
      user_id
  ) AS state_1
)
SELECT
  per_user.window_start AS window_start,
  per_user.country AS country,
  per_user.subscription_plan AS subscription_plan,
  CAST(CAST(SUM(per_user.sessions) AS DECIMAL(38, 0)) AS BIGINT) AS sessions,
  COUNT(per_user.user_id) AS active_users,
  CAST(SUM(per_user.watch_minutes) AS DECIMAL(38, 2)) AS watch_minutes,
  CAST(SUM(per_user.progress) AS DECIMAL(38, 2)) AS progress_sum,
  CAST(CAST(SUM(per_user.progress_known) AS DECIMAL(38, 0)) AS BIGINT) AS progress_known,
  CAST(CAST(SUM(per_user.low_engagement) AS DECIMAL(38, 0)) AS BIGINT) AS low_engagement_sessions,
  CAST(CAST(SUM(per_user.downgraded) AS DECIMAL(38, 0)) AS BIGINT) AS downgraded_sessions,
  CAST(CAST(SUM(per_user.abandoned) AS DECIMAL(38, 0)) AS BIGINT) AS abandoned_sessions,
  CAST(CAST(SUM(per_user.completed) AS DECIMAL(38, 0)) AS BIGINT) AS completed_sessions,
  CAST(CAST(SUM(per_user.at_risk) AS DECIMAL(38, 0)) AS BIGINT) AS sessions_at_risk,
  COALESCE(
    CAST(SUM(CASE WHEN per_user.at_risk > 0 THEN per_user.monthly_spend END) AS DECIMAL(38, 2)),
    0
  ) AS revenue_at_risk
FROM per_user AS per_user
GROUP BY
  per_user.window_start,
  per_user.country,
  per_user.subscription_plan
