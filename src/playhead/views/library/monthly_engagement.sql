-- Watch time, active members and session length by month, country and plan.
-- Rows without a date or a duration, and rows of unknown users or titles, are left out.
-- owner: analytics
-- column watch_year: year of watch_date
-- column watch_month: month of watch_date, 1 to 12
-- column country: the user's country
-- column subscription_plan: the user's plan
-- column total_watch_time_minutes: sum of watch_duration_minutes
-- column monthly_active_users: distinct users, exact
-- column total_sessions: playback sessions
-- column avg_session_duration: minutes per session
-- column unique_content_viewed: distinct titles, exact
SELECT
  YEAR(p.watch_date) AS watch_year,
  MONTH(p.watch_date) AS watch_month,
  u.country,
  u.subscription_plan,
  SUM(p.watch_duration_minutes) AS total_watch_time_minutes,
  COUNT(DISTINCT p.user_id) AS monthly_active_users,
  COUNT(*) AS total_sessions,
  AVG(p.watch_duration_minutes) AS avg_session_duration,
  COUNT(DISTINCT p.movie_id) AS unique_content_viewed
FROM playback AS p
JOIN users AS u ON p.user_id = u.user_id
JOIN movies AS m ON p.movie_id = m.movie_id
WHERE p.watch_date IS NOT NULL AND p.watch_duration_minutes IS NOT NULL
GROUP BY ALL
