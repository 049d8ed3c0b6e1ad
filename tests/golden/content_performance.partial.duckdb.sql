SELECT
  YEAR(watch_date) AS watch_year,
  MONTH(watch_date) AS watch_month,
  movies__genre_primary AS genre_primary,
  0 AS distinct__tag,
  CAST(NULL AS TEXT) AS unique_movies,
  CAST(NULL AS TEXT) AS unique_users,
  CAST(SUM(pair_ratings__avg_rating) AS DECIMAL(38, 4)) AS avg_rating__sum,
  COUNT(pair_ratings__avg_rating) AS avg_rating__count,
  COUNT(*) AS total_views__count,
  CAST(SUM(watch_duration_minutes) AS DECIMAL(38, 2)) AS total_watch_time_minutes__sum
FROM events
WHERE
  (
    users__found
    AND movies__found
    AND pair_ratings__found
    AND NOT watch_date IS NULL
    AND NOT watch_duration_minutes IS NULL
  )
GROUP BY
  YEAR(watch_date),
  MONTH(watch_date),
  movies__genre_primary
UNION ALL
SELECT
  YEAR(watch_date) AS watch_year,
  MONTH(watch_date) AS watch_month,
  movies__genre_primary AS genre_primary,
  1 AS distinct__tag,
  movie_id AS unique_movies,
  CAST(NULL AS TEXT) AS unique_users,
  CAST(NULL AS DECIMAL(38, 4)) AS avg_rating__sum,
  CAST(NULL AS BIGINT) AS avg_rating__count,
  CAST(NULL AS BIGINT) AS total_views__count,
  CAST(NULL AS DECIMAL(38, 2)) AS total_watch_time_minutes__sum
FROM events
WHERE
  (
    users__found
    AND movies__found
    AND pair_ratings__found
    AND NOT watch_date IS NULL
    AND NOT watch_duration_minutes IS NULL
  )
  AND (
    NOT movie_id IS NULL
  )
GROUP BY
  YEAR(watch_date),
  MONTH(watch_date),
  movies__genre_primary,
  movie_id
UNION ALL
SELECT
  YEAR(watch_date) AS watch_year,
  MONTH(watch_date) AS watch_month,
  movies__genre_primary AS genre_primary,
  2 AS distinct__tag,
  CAST(NULL AS TEXT) AS unique_movies,
  user_id AS unique_users,
  CAST(NULL AS DECIMAL(38, 4)) AS avg_rating__sum,
  CAST(NULL AS BIGINT) AS avg_rating__count,
  CAST(NULL AS BIGINT) AS total_views__count,
  CAST(NULL AS DECIMAL(38, 2)) AS total_watch_time_minutes__sum
FROM events
WHERE
  (
    users__found
    AND movies__found
    AND pair_ratings__found
    AND NOT watch_date IS NULL
    AND NOT watch_duration_minutes IS NULL
  )
  AND (
    NOT user_id IS NULL
  )
GROUP BY
  YEAR(watch_date),
  MONTH(watch_date),
  movies__genre_primary,
  user_id
