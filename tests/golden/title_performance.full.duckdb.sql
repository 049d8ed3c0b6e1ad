WITH watched AS (
  SELECT
    state_1.month AS month,
    state_1.movie_id AS movie_id,
    state_1.sessions AS sessions,
    state_1.viewers AS viewers,
    state_1.watch_minutes AS watch_minutes,
    state_1.completed_sessions AS completed_sessions,
    state_1.progress_sum AS progress_sum,
    state_1.progress_known AS progress_known,
    state_1.rating_sum AS rating_sum,
    state_1.rated_sessions AS rated_sessions
  FROM (
    SELECT
      CAST(DATE_TRUNC('MONTH', watch_date) AS DATE) AS month,
      movie_id AS movie_id,
      COUNT(*) AS sessions,
      COUNT(DISTINCT user_id) AS viewers,
      CAST(SUM(watch_duration_minutes) AS DECIMAL(38, 2)) AS watch_minutes,
      COUNT(CASE WHEN action = 'completed' THEN 1 END) AS completed_sessions,
      CAST(SUM(progress_percentage) AS DECIMAL(38, 2)) AS progress_sum,
      COUNT(progress_percentage) AS progress_known,
      CAST(SUM(user_rating) AS BIGINT) AS rating_sum,
      COUNT(user_rating) AS rated_sessions
    FROM (
      SELECT
        e.user_id,
        e.movie_id,
        e.watch_date,
        e.watch_duration_minutes,
        e.progress_percentage,
        e.action,
        e.user_rating,
        NOT users.user_id IS NULL AS users__found
      FROM playback AS e
      LEFT JOIN users AS users
        ON e.user_id = users.user_id
    ) AS events
    WHERE
      users__found AND NOT watch_date IS NULL AND NOT watch_duration_minutes IS NULL
    GROUP BY
      CAST(DATE_TRUNC('MONTH', watch_date) AS DATE),
      movie_id
  ) AS state_1
)
SELECT
  w.month AS month,
  w.movie_id AS movie_id,
  m.title AS title,
  m.genre_primary AS genre_primary,
  m.content_type AS content_type,
  w.sessions AS sessions,
  w.viewers AS viewers,
  w.watch_minutes AS watch_minutes,
  w.completed_sessions AS completed_sessions,
  CAST(w.completed_sessions AS DOUBLE) / NULLIF(CAST(w.sessions AS DOUBLE), 0) AS completion_rate,
  w.progress_sum AS progress_sum,
  w.progress_known AS progress_known,
  CAST(w.progress_sum AS DOUBLE) / NULLIF(CAST(w.progress_known AS DOUBLE), 0) AS avg_progress,
  w.rating_sum AS rating_sum,
  w.rated_sessions AS rated_sessions,
  CAST(w.rating_sum AS DOUBLE) / NULLIF(CAST(w.rated_sessions AS DOUBLE), 0) AS avg_rating
FROM watched AS w
JOIN movies AS m
  ON w.movie_id = m.movie_id
