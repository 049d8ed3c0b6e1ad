-- Active members, countries and watch time by month.
-- Rows without a date or a duration, and rows of unknown users or titles, are left out.
-- owner: analytics
-- column watch_year: year of watch_date
-- column watch_month: month of watch_date, 1 to 12
-- column monthly_active_users: distinct users, exact
-- column countries: distinct countries of those users
-- column total_watch_time_minutes: sum of watch_duration_minutes
SELECT
  YEAR(p.watch_date) AS watch_year,
  MONTH(p.watch_date) AS watch_month,
  COUNT(DISTINCT p.user_id) AS monthly_active_users,
  COUNT(DISTINCT u.country) AS countries,
  SUM(p.watch_duration_minutes) AS total_watch_time_minutes
FROM playback AS p
JOIN users AS u ON p.user_id = u.user_id
JOIN movies AS m ON p.movie_id = m.movie_id
WHERE p.watch_date IS NOT NULL AND p.watch_duration_minutes IS NOT NULL
GROUP BY ALL
