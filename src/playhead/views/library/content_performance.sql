-- Reviewed titles by month and genre: watch rows whose user has reviewed that title.
-- Rows without a date or a duration, and rows of unknown users or titles, are left out.
-- owner: content
-- column watch_year: year of watch_date
-- column watch_month: month of watch_date, 1 to 12
-- column genre_primary: the title's main genre
-- column avg_rating: mean over the rows of the (user, title) pair's mean review rating, 1 to 5
-- column total_views: playback sessions
-- column total_watch_time_minutes: sum of watch_duration_minutes
-- column unique_movies: distinct titles, exact
-- column unique_users: distinct users, exact
SELECT
  YEAR(p.watch_date) AS watch_year,
  MONTH(p.watch_date) AS watch_month,
  m.genre_primary,
  AVG(r.avg_rating) AS avg_rating,
  COUNT(*) AS total_views,
  SUM(p.watch_duration_minutes) AS total_watch_time_minutes,
  COUNT(DISTINCT p.movie_id) AS unique_movies,
  COUNT(DISTINCT p.user_id) AS unique_users
FROM playback AS p
JOIN users AS u ON p.user_id = u.user_id
JOIN movies AS m ON p.movie_id = m.movie_id
JOIN pair_ratings AS r ON p.user_id = r.user_id AND p.movie_id = r.movie_id
WHERE p.watch_date IS NOT NULL AND p.watch_duration_minutes IS NOT NULL
GROUP BY ALL
