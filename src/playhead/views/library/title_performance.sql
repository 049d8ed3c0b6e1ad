-- Every title by month: reach, watch time, how sessions end, and the stars that viewers give.
-- Rows without a date or a duration, and rows of unknown users or titles, are left out.
-- Sessions, minutes, sums and counts add up over months and titles; viewers do not.
-- Ratings are those given at the end of a session, which one session in five has: reviews are
-- of pairs of user and title that are seldom also in the watch history.
-- owner: content
-- column month: first day of the month of watch_date
-- column movie_id: the title's identity; several titles may have the same name
-- column title: the title's name
-- column genre_primary: the title's main genre
-- column content_type: kind of title
-- column sessions: playback sessions
-- column viewers: distinct users, exact
-- column watch_minutes: sum of watch_duration_minutes
-- column completed_sessions: sessions whose last action is completed
-- column completion_rate: completed_sessions / sessions, 0 to 1
-- column progress_sum: sum of progress_percentage
-- column progress_known: sessions whose progress is known
-- column avg_progress: progress_sum / progress_known, 0 to 100
-- column rating_sum: sum of user_rating, in stars
-- column rated_sessions: sessions with a user_rating
-- column avg_rating: rating_sum / rated_sessions, 1 to 5
WITH watched AS (
  SELECT
    CAST(DATE_TRUNC('month', p.watch_date) AS DATE) AS month,
    p.movie_id,
    COUNT(*) AS sessions,
    COUNT(DISTINCT p.user_id) AS viewers,
    SUM(p.watch_duration_minutes) AS watch_minutes,
    COUNT(*) FILTER (WHERE p.action = 'completed') AS completed_sessions,
    SUM(p.progress_percentage) AS progress_sum,
    COUNT(p.progress_percentage) AS progress_known,
    SUM(p.user_rating) AS rating_sum,
    COUNT(p.user_rating) AS rated_sessions
  FROM playback AS p
  JOIN users AS u ON p.user_id = u.user_id
  WHERE p.watch_date IS NOT NULL AND p.watch_duration_minutes IS NOT NULL
  GROUP BY ALL
)
SELECT
  w.month,
  w.movie_id,
  m.title,
  m.genre_primary,
  m.content_type,
  w.sessions,
  w.viewers,
  w.watch_minutes,
  w.completed_sessions,
  w.completed_sessions / w.sessions AS completion_rate,
  w.progress_sum,
  w.progress_known,
  w.progress_sum / w.progress_known AS avg_progress,
  w.rating_sum,
  w.rated_sessions,
  w.rating_sum / w.rated_sessions AS avg_rating
FROM watched AS w
JOIN movies AS m ON w.movie_id = m.movie_id
