SELECT
  state_1.watch_year AS watch_year,
  state_1.watch_month AS watch_month,
  state_1.genre_primary AS genre_primary,
  state_1.avg_rating AS avg_rating,
  state_1.total_views AS total_views,
  state_1.total_watch_time_minutes AS total_watch_time_minutes,
  state_1.unique_movies AS unique_movies,
  state_1.unique_users AS unique_users
FROM (
  SELECT
    watch_year,
    watch_month,
    genre_primary,
    CAST(avg_rating__sum AS DOUBLE) / NULLIF(CAST(avg_rating__count AS DOUBLE), 0) AS avg_rating,
    total_views__count AS total_views,
    total_watch_time_minutes__sum AS total_watch_time_minutes,
    COALESCE(unique_movies, 0) AS unique_movies,
    COALESCE(unique_users, 0) AS unique_users
  FROM (
    SELECT
      watch_year,
      watch_month,
      genre_primary,
      COUNT(unique_movies) AS unique_movies,
      COUNT(unique_users) AS unique_users,
      CAST(SUM(avg_rating__sum) AS DECIMAL(38, 4)) AS avg_rating__sum,
      COALESCE(CAST(SUM(avg_rating__count) AS BIGINT), 0) AS avg_rating__count,
      COALESCE(CAST(SUM(total_views__count) AS BIGINT), 0) AS total_views__count,
      CAST(SUM(total_watch_time_minutes__sum) AS DECIMAL(38, 2)) AS total_watch_time_minutes__sum
    FROM state_1
    GROUP BY
      watch_year,
      watch_month,
      genre_primary
  ) AS merged
) AS state_1
