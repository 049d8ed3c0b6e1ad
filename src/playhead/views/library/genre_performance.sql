-- Every genre over all time: views, watch time, reach and ratings.
-- Rows without a date or a duration, and rows of unknown users or titles, are left out.
-- owner: content
-- column genre_primary: the title's main genre
-- column avg_rating: mean of the (user, title) pair's mean review rating, over rows that have one
-- column total_views: playback sessions
-- column total_watch_time_minutes: sum of watch_duration_minutes
-- column unique_movies: distinct titles, exact
-- column unique_users: distinct users, exact
-- column avg_watch_duration: minutes per session
SELECT
  m.genre_primary,
  AVG(r.avg_rating) AS avg_rating,
  COUNT(*) AS total_views,
  SUM(p.watch_duration_minutes) AS total_watch_time_minutes,
  COUNT(DISTINCT p.movie_id) AS unique_movies,
  COUNT(DISTINCT p.user_id) AS unique_users,
  AVG(p.watch_duration_minutes) AS avg_watch_duration
FROM playback AS p
JOIN users AS u ON p.user_id = u.user_id
JOIN movies AS m ON p.movie_id = m.movie_id
LEFT JOIN pair_ratings AS r ON p.user_id = r.user_id AND p.movie_id = r.movie_id
WHERE p.watch_date IS NOT NULL AND p.watch_duration_minutes IS NOT NULL
GROUP BY ALL
