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
      month,
      movie_id,
      sessions__count AS sessions,
      COALESCE(viewers, 0) AS viewers,
      watch_minutes__sum AS watch_minutes,
      completed_sessions__count AS completed_sessions,
      progress_sum__sum AS progress_sum,
      progress_known__count AS progress_known,
      rating_sum__sum AS rating_sum,
      rated_sessions__count AS rated_sessions
    FROM (
      SELECT
        month,
        movie_id,
        COUNT(viewers) AS viewers,
        COALESCE(CAST(SUM(sessions__count) AS BIGINT), 0) AS sessions__count,
        CAST(SUM(watch_minutes__sum) AS DECIMAL(38, 2)) AS watch_minutes__sum,
        COALESCE(CAST(SUM(completed_sessions__count) AS BIGINT), 0) AS completed_sessions__count,
        CAST(SUM(progress_sum__sum) AS DECIMAL(38, 2)) AS progress_sum__sum,
        COALESCE(CAST(SUM(progress_known__count) AS BIGINT), 0) AS progress_known__count,
        CAST(SUM(rating_sum__sum) AS BIGINT) AS rating_sum__sum,
        COALESCE(CAST(SUM(rated_sessions__count) AS BIGINT), 0) AS rated_sessions__count
      FROM state_1
      GROUP BY
        month,
        movie_id
    ) AS merged
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
