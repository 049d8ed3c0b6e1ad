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
      CAST(TIMESTAMP_MICROS(
        UNIX_MICROS(CAST(event_time AS TIMESTAMP_LTZ)) - PMOD(UNIX_MICROS(CAST(event_time AS TIMESTAMP_LTZ)) - 946857600000000, 300000000)
      ) AS TIMESTAMP_NTZ) AS window_start,
      users__country AS country,
      movies__genre_primary AS genre,
      device_type AS device_type,
      quality AS quality,
      movies__content_type AS content_type,
      user_id AS user_id,
      COUNT(*) AS sessions,
      CAST(SUM(watch_duration_minutes) AS DECIMAL(38, 2)) AS watch_minutes,
      CAST(SUM(progress_percentage) AS DECIMAL(38, 2)) AS progress,
      COUNT(progress_percentage) AS progress_known,
      CAST(SUM(CASE WHEN progress_percentage < 20 THEN 1 ELSE 0 END) AS BIGINT) AS low_engagement,
      CAST(SUM(CASE WHEN quality IN ('SD', 'HD') THEN 1 ELSE 0 END) AS BIGINT) AS downgraded,
      CAST(SUM(CASE WHEN action = 'stopped' AND progress_percentage < 50 THEN 1 ELSE 0 END) AS BIGINT) AS abandoned,
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
        e.device_type,
        e.watch_duration_minutes,
        e.progress_percentage,
        e.action,
        e.quality,
        users.country AS users__country,
        users.monthly_spend AS users__monthly_spend,
        NOT users.user_id IS NULL AS users__found,
        movies.content_type AS movies__content_type,
        movies.genre_primary AS movies__genre_primary,
        NOT movies.movie_id IS NULL AS movies__found
      FROM playback AS e
      LEFT JOIN users AS users
        ON e.user_id = users.user_id
      LEFT JOIN movies AS movies
        ON e.movie_id = movies.movie_id
    ) AS events
    GROUP BY
      CAST(TIMESTAMP_MICROS(
        UNIX_MICROS(CAST(event_time AS TIMESTAMP_LTZ)) - PMOD(UNIX_MICROS(CAST(event_time AS TIMESTAMP_LTZ)) - 946857600000000, 300000000)
      ) AS TIMESTAMP_NTZ),
      users__country,
      movies__genre_primary,
      device_type,
      quality,
      movies__content_type,
      user_id
  ) AS state_1
), windows AS (
  SELECT
    per_user.window_start AS window_start,
    per_user.country AS country,
    per_user.genre AS genre,
    per_user.device_type AS device_type,
    per_user.quality AS quality,
    per_user.content_type AS content_type,
    CAST(CAST(SUM(per_user.sessions) AS DECIMAL(38, 0)) AS BIGINT) AS sessions,
    COUNT(per_user.user_id) AS active_users,
    CAST(SUM(per_user.watch_minutes) AS DECIMAL(38, 2)) AS watch_minutes,
    CAST(CAST(SUM(per_user.progress) AS DECIMAL(38, 2)) AS DOUBLE) / NULLIF(
      CAST(CAST(CAST(SUM(per_user.progress_known) AS DECIMAL(38, 0)) AS BIGINT) AS DOUBLE),
      0
    ) AS avg_progress,
    CAST(CAST(CAST(SUM(per_user.low_engagement) AS DECIMAL(38, 0)) AS BIGINT) AS DOUBLE) / NULLIF(CAST(CAST(CAST(SUM(per_user.sessions) AS DECIMAL(38, 0)) AS BIGINT) AS DOUBLE), 0) AS low_engagement_rate,
    CAST(CAST(CAST(SUM(per_user.downgraded) AS DECIMAL(38, 0)) AS BIGINT) AS DOUBLE) / NULLIF(CAST(CAST(CAST(SUM(per_user.sessions) AS DECIMAL(38, 0)) AS BIGINT) AS DOUBLE), 0) AS quality_downgrade_rate,
    CAST(CAST(CAST(SUM(per_user.abandoned) AS DECIMAL(38, 0)) AS BIGINT) AS DOUBLE) / NULLIF(CAST(CAST(CAST(SUM(per_user.sessions) AS DECIMAL(38, 0)) AS BIGINT) AS DOUBLE), 0) AS abandoned_rate,
    CAST(CAST(SUM(per_user.at_risk) AS DECIMAL(38, 0)) AS BIGINT) AS at_risk,
    CAST(CAST(CAST(SUM(per_user.at_risk) AS DECIMAL(38, 0)) AS BIGINT) AS DOUBLE) / NULLIF(CAST(CAST(CAST(SUM(per_user.sessions) AS DECIMAL(38, 0)) AS BIGINT) AS DOUBLE), 0) AS churn_rate,
    COALESCE(
      CAST(SUM(CASE WHEN per_user.at_risk > 0 THEN per_user.monthly_spend END) AS DECIMAL(38, 2)),
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
