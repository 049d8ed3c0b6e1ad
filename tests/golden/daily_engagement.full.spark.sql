SELECT
  state_1.day AS day,
  state_1.country AS country,
  state_1.subscription_plan AS subscription_plan,
  state_1.device_type AS device_type,
  state_1.content_type AS content_type,
  state_1.sessions AS sessions,
  state_1.watch_minutes AS watch_minutes,
  state_1.completed_sessions AS completed_sessions,
  state_1.abandoned_sessions AS abandoned_sessions,
  state_1.progress_sum AS progress_sum,
  state_1.progress_known AS progress_known
FROM (
  SELECT
    CAST(DATE_TRUNC('DAY', event_time) AS TIMESTAMP_NTZ) AS day,
    users__country AS country,
    users__subscription_plan AS subscription_plan,
    device_type AS device_type,
    movies__content_type AS content_type,
    COUNT(*) AS sessions,
    CAST(SUM(watch_duration_minutes) AS DECIMAL(38, 2)) AS watch_minutes,
    COUNT(CASE WHEN action = 'completed' THEN 1 END) AS completed_sessions,
    COUNT(CASE WHEN action = 'stopped' AND progress_percentage < 50 THEN 1 END) AS abandoned_sessions,
    CAST(SUM(progress_percentage) AS DECIMAL(38, 2)) AS progress_sum,
    COUNT(progress_percentage) AS progress_known
  FROM (
    SELECT
      e.event_time,
      e.device_type,
      e.watch_duration_minutes,
      e.progress_percentage,
      e.action,
      users.country AS users__country,
      users.subscription_plan AS users__subscription_plan,
      NOT users.user_id IS NULL AS users__found,
      movies.content_type AS movies__content_type,
      NOT movies.movie_id IS NULL AS movies__found
    FROM playback AS e
    LEFT JOIN users AS users
      ON e.user_id = users.user_id
    LEFT JOIN movies AS movies
      ON e.movie_id = movies.movie_id
  ) AS events
  GROUP BY
    CAST(DATE_TRUNC('DAY', event_time) AS TIMESTAMP_NTZ),
    users__country,
    users__subscription_plan,
    device_type,
    movies__content_type
) AS state_1
