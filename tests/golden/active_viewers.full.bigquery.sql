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
      DATETIME_BUCKET(CAST(event_time AS DATETIME), INTERVAL '5' MINUTE, CAST('2000-01-03' AS DATETIME)) AS window_start,
      users__country AS country,
      users__subscription_plan AS subscription_plan,
      user_id AS user_id,
      COUNT(*) AS sessions,
      CAST(SUM(watch_duration_minutes) AS BIGNUMERIC) AS watch_minutes,
      CAST(SUM(progress_percentage) AS BIGNUMERIC) AS progress,
      COUNT(progress_percentage) AS progress_known,
      CAST(SUM(CASE WHEN progress_percentage < 20 THEN 1 ELSE 0 END) AS INT64) AS low_engagement,
      CAST(SUM(CASE WHEN quality IN ('SD', 'HD') THEN 1 ELSE 0 END) AS INT64) AS downgraded,
      CAST(SUM(CASE WHEN action = 'stopped' AND progress_percentage < 50 THEN 1 ELSE 0 END) AS INT64) AS abandoned,
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
      DATETIME_BUCKET(CAST(event_time AS DATETIME), INTERVAL '5' MINUTE, CAST('2000-01-03' AS DATETIME)),
      users__country,
      users__subscription_plan,
      user_id
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
