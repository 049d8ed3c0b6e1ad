SELECT
  state_1.genre_primary AS genre_primary,
  state_1.avg_rating AS avg_rating,
  state_1.total_views AS total_views,
  state_1.total_watch_time_minutes AS total_watch_time_minutes,
  state_1.unique_movies AS unique_movies,
  state_1.unique_users AS unique_users,
  state_1.avg_watch_duration AS avg_watch_duration
FROM (
  SELECT
    movies__genre_primary AS genre_primary,
    CAST(CAST(SUM(pair_ratings__avg_rating) AS DECIMAL(38, 4)) AS DOUBLE) / NULLIF(CAST(COUNT(pair_ratings__avg_rating) AS DOUBLE), 0) AS avg_rating,
    COUNT(*) AS total_views,
    CAST(SUM(watch_duration_minutes) AS DECIMAL(38, 2)) AS total_watch_time_minutes,
    COUNT(DISTINCT movie_id) AS unique_movies,
    COUNT(DISTINCT user_id) AS unique_users,
    CAST(CAST(SUM(watch_duration_minutes) AS DECIMAL(38, 2)) AS DOUBLE) / NULLIF(CAST(COUNT(watch_duration_minutes) AS DOUBLE), 0) AS avg_watch_duration
  FROM (
    SELECT
      e.user_id,
      e.movie_id,
      e.watch_date,
      e.watch_duration_minutes,
      NOT users.user_id IS NULL AS users__found,
      movies.genre_primary AS movies__genre_primary,
      NOT movies.movie_id IS NULL AS movies__found,
      pair_ratings.avg_rating AS pair_ratings__avg_rating,
      NOT pair_ratings.user_id IS NULL AS pair_ratings__found
    FROM playback AS e
    LEFT JOIN users AS users
      ON e.user_id = users.user_id
    LEFT JOIN movies AS movies
      ON e.movie_id = movies.movie_id
    LEFT JOIN pair_ratings AS pair_ratings
      ON e.user_id = pair_ratings.user_id AND e.movie_id = pair_ratings.movie_id
  ) AS events
  WHERE
    users__found
    AND movies__found
    AND NOT watch_date IS NULL
    AND NOT watch_duration_minutes IS NULL
  GROUP BY
    movies__genre_primary
) AS state_1
