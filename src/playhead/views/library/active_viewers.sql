-- Who watches now, in 5-minute windows by country and plan, and how many are about to leave.
-- A session is at risk when at least two of three signals hold: low engagement (progress
-- below 20 %), a downgraded picture (SD or HD), abandoned (stopped before half).
-- A user has one country and one plan, so every number of a window, active_users and
-- revenue_at_risk too, adds up over countries and plans; over windows only counts of sessions,
-- minutes and progress do. Unknown users are in the row where both are NULL.
-- owner: engagement
-- watermark: 10 minutes
-- column window_start: start of the window of event_time, UTC
-- column country: the user's country; NULL where the user is unknown
-- column subscription_plan: the user's plan; NULL where the user is unknown
-- column sessions: playback sessions
-- column active_users: distinct users, exact
-- column watch_minutes: sum of watch_duration_minutes
-- column progress_sum: sum of progress_percentage; over progress_known it is the mean, 0 to 100
-- column progress_known: sessions whose progress is known
-- column low_engagement_sessions: sessions with progress below 20 %
-- column downgraded_sessions: sessions in SD or HD
-- column abandoned_sessions: sessions stopped before half
-- column completed_sessions: sessions whose last action is completed
-- column sessions_at_risk: sessions with at least two of the three signals
-- column revenue_at_risk: monthly_spend of the distinct users behind sessions at risk, each once,
--   US dollars a month
WITH signals AS (
  SELECT
    TIME_BUCKET(INTERVAL '5 minutes', p.event_time) AS window_start,
    u.country,
    u.subscription_plan,
    p.user_id,
    u.monthly_spend,
    p.watch_duration_minutes,
    p.progress_percentage,
    p.action,
    CASE WHEN p.progress_percentage < 20 THEN 1 ELSE 0 END AS low_engagement,
    CASE WHEN p.quality IN ('SD', 'HD') THEN 1 ELSE 0 END AS downgraded,
    CASE WHEN p.action = 'stopped' AND p.progress_percentage < 50 THEN 1 ELSE 0 END AS abandoned
  FROM playback AS p
  LEFT JOIN users AS u ON p.user_id = u.user_id
),
per_user AS (
  SELECT
    window_start, country, subscription_plan, user_id,
    COUNT(*) AS sessions,
    SUM(watch_duration_minutes) AS watch_minutes,
    SUM(progress_percentage) AS progress,
    COUNT(progress_percentage) AS progress_known,
    SUM(low_engagement) AS low_engagement,
    SUM(downgraded) AS downgraded,
    SUM(abandoned) AS abandoned,
    COUNT(*) FILTER (WHERE action = 'completed') AS completed,
    COUNT(*) FILTER (WHERE low_engagement + downgraded + abandoned >= 2) AS at_risk,
    MAX(monthly_spend) AS monthly_spend
  FROM signals
  GROUP BY ALL
)
SELECT
  window_start, country, subscription_plan,
  SUM(sessions) AS sessions,
  COUNT(user_id) AS active_users,
  SUM(watch_minutes) AS watch_minutes,
  SUM(progress) AS progress_sum,
  SUM(progress_known) AS progress_known,
  SUM(low_engagement) AS low_engagement_sessions,
  SUM(downgraded) AS downgraded_sessions,
  SUM(abandoned) AS abandoned_sessions,
  SUM(completed) AS completed_sessions,
  SUM(at_risk) AS sessions_at_risk,
  COALESCE(SUM(monthly_spend) FILTER (WHERE at_risk > 0), 0) AS revenue_at_risk
FROM per_user
GROUP BY ALL
