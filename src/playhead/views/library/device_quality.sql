-- Which picture quality each kind of device gets, and how those sessions go, by day.
-- owner: playback
-- column day: day of event_time
-- column device_type: the device
-- column quality: SD, HD, 4K or Ultra HD
-- column sessions: playback sessions
-- column active_users: distinct users, exact
-- column watch_minutes: sum of watch_duration_minutes
-- column avg_progress: mean of progress_percentage, 0 to 100
-- column completed_rate: share of sessions whose last action is completed, 0 to 1
-- column download_rate: share of sessions played from a download, 0 to 1
SELECT
  DATE_TRUNC('day', event_time) AS day,
  device_type,
  quality,
  COUNT(*) AS sessions,
  COUNT(DISTINCT user_id) AS active_users,
  SUM(watch_duration_minutes) AS watch_minutes,
  AVG(progress_percentage) AS avg_progress,
  COUNT(*) FILTER (WHERE action = 'completed') / COUNT(*) AS completed_rate,
  COUNT(*) FILTER (WHERE is_download) / COUNT(*) AS download_rate
FROM playback
GROUP BY ALL
