SELECT
  state_1.watch_year AS watch_year,
  state_1.watch_month AS watch_month,
  state_1.country AS country,
  state_1.subscription_plan AS subscription_plan,
  state_1.total_watch_time_minutes AS total_watch_time_minutes,
  state_1.monthly_active_users AS monthly_active_users,
  state_1.total_sessions AS total_sessions,
  state_1.avg_session_duration AS avg_session_duration,
  state_1.unique_content_viewed AS unique_content_viewed
FROM (
  SELECT
    EXTRACT(YEAR FROM watch_date) AS watch_year,
    EXTRACT(MONTH FROM watch_date) AS watch_month,
    users__country AS country,
    users__subscription_plan AS subscription_plan,
    CAST(SUM(watch_duration_minutes) AS BIGNUMERIC) AS total_watch_time_minutes,
    COUNT(DISTINCT user_id) AS monthly_active_users,
    COUNT(*) AS total_sessions,
    CAST(CAST(SUM(watch_duration_minutes) AS BIGNUMERIC) AS FLOAT64) / NULLIF(CAST(COUNT(watch_duration_minutes) AS FLOAT64), 0) AS avg_session_duration,
    COUNT(DISTINCT movie_id) AS unique_content_viewed
  FROM (
    SELECT
      e.user_id,
      e.movie_id,
      e.watch_date,
      e.watch_duration_minutes,
      users.country AS users__country,
      users.subscription_plan AS users__subscription_plan,
      NOT users.user_id IS NULL AS users__found,
      NOT movies.movie_id IS NULL AS movies__found
    FROM playback AS e
    LEFT JOIN users AS users
      ON e.user_id = users.user_id
    LEFT JOIN movies AS movies
      ON e.movie_id = movies.movie_id
  ) AS events
  WHERE
    users__found
    AND movies__found
    AND NOT watch_date IS NULL
    AND NOT watch_duration_minutes IS NULL
  GROUP BY
    EXTRACT(YEAR FROM watch_date),
    EXTRACT(MONTH FROM watch_date),
    users__country,
    users__subscription_plan
) AS state_1
