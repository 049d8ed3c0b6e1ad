-- Sessions, watch time and how sessions end, by day, country, plan, device and kind of title.
-- Nothing here is a distinct count or a rate: every number adds up over every column, and over
-- days. Unknown users and titles are in the rows where their columns are NULL.
-- owner: engagement
-- column day: day of event_time
-- column country: the user's country; NULL where the user is unknown
-- column subscription_plan: the user's plan; NULL where the user is unknown
-- column device_type: the device
-- column content_type: kind of title; NULL where the title is unknown
-- column sessions: playback sessions
-- column watch_minutes: sum of watch_duration_minutes
-- column completed_sessions: sessions whose last action is completed
-- column abandoned_sessions: sessions stopped before half
-- column progress_sum: sum of progress_percentage; over progress_known it is the mean, 0 to 100
-- column progress_known: sessions whose progress is known
SELECT
  DATE_TRUNC('day', p.event_time) AS day,
  u.country,
  u.subscription_plan,
  p.device_type,
  m.content_type,
  COUNT(*) AS sessions,
  SUM(p.watch_duration_minutes) AS watch_minutes,
  COUNT(*) FILTER (WHERE p.action = 'completed') AS completed_sessions,
  COUNT(*) FILTER (
    WHERE p.action = 'stopped' AND p.progress_percentage < 50
  ) AS abandoned_sessions,
  SUM(p.progress_percentage) AS progress_sum,
  COUNT(p.progress_percentage) AS progress_known
FROM playback AS p
LEFT JOIN users AS u ON p.user_id = u.user_id
LEFT JOIN movies AS m ON p.movie_id = m.movie_id
GROUP BY ALL
