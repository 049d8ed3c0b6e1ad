SELECT
  genre_primary,
  distinct__tag,
  unique_movies,
  unique_users,
  CAST(SUM(avg_rating__sum) AS DECIMAL(38, 4)) AS avg_rating__sum,
  COALESCE(CAST(SUM(avg_rating__count) AS BIGINT), 0) AS avg_rating__count,
  COALESCE(CAST(SUM(total_views__count) AS BIGINT), 0) AS total_views__count,
  CAST(SUM(total_watch_time_minutes__sum) AS DECIMAL(38, 2)) AS total_watch_time_minutes__sum,
  COALESCE(CAST(SUM(avg_watch_duration__count) AS BIGINT), 0) AS avg_watch_duration__count
FROM states
GROUP BY
  genre_primary,
  distinct__tag,
  unique_movies,
  unique_users
