-- Early signs of churn in 5-minute windows, and what they put at risk.
-- A session is at risk when at least two of three signals hold: low engagement (progress
-- below 20 %), a downgraded picture (SD or HD), abandoned (stopped before half).
--
-- Levels: nothing is raised unless two fifths of the window's sessions are at risk, about twice
-- the usual share (18 % in the reference data set). MEDIUM then takes a revenue_impact of 30: one
-- account of the dearest tenth, or two ordinary ones. HIGH is a crowd, two sessions at risk beyond
-- the two fifths (4 of 4, 6 of 10, 42 of 100; chance does that to fewer than 1 window in 200, and
-- to none of 3 sessions or fewer), or a revenue_impact of 200: fifteen ordinary accounts, or one
-- that pays twice the most that is plausible, so large or so wrong that somebody has to look.
-- Reference data set, nearly all windows with one session: 184 HIGH, 1,713 MEDIUM, 98,084 LOW.
-- Generated, 3 million sessions in 2 days: 7,095 HIGH, 53,708 MEDIUM, 909,668 LOW; of the windows
-- with 4 sessions or more, 18 % are HIGH for SD on mobiles, which the generator makes bad, and 2 %
-- for HD on mobiles.
--
-- owner: engagement
-- watermark: 10 minutes
-- column window_start: start of the window of event_time, UTC
-- column country: the user's country
-- column genre: the title's main genre
-- column device_type: the device
-- column quality: SD, HD, 4K or Ultra HD
-- column content_type: kind of title
-- column sessions: playback sessions
-- column active_users: distinct users, exact
-- column watch_minutes: sum of watch_duration_minutes
-- column avg_progress: mean of progress_percentage, 0 to 100
-- column low_engagement_rate: share of sessions with progress below 20 %, 0 to 1
-- column quality_downgrade_rate: share of sessions in SD or HD, 0 to 1
-- column abandoned_rate: share of sessions stopped before half, 0 to 1
-- column churn_rate: share of sessions at risk, 0 to 1
-- column revenue_impact: monthly_spend of the distinct users behind sessions at risk, each once
-- column alert_level: HIGH, MEDIUM or LOW
WITH signals AS (
  SELECT
    TIME_BUCKET(INTERVAL '5 minutes', p.event_time) AS window_start,
    u.country,
    m.genre_primary AS genre,
    p.device_type,
    p.quality,
    m.content_type,
    p.user_id,
    u.monthly_spend,
    p.watch_duration_minutes,
    p.progress_percentage,
    CASE WHEN p.progress_percentage < 20 THEN 1 ELSE 0 END AS low_engagement,
    CASE WHEN p.quality IN ('SD', 'HD') THEN 1 ELSE 0 END AS downgraded,
    CASE WHEN p.action = 'stopped' AND p.progress_percentage < 50 THEN 1 ELSE 0 END AS abandoned
  FROM playback AS p
  LEFT JOIN users AS u ON p.user_id = u.user_id
  LEFT JOIN movies AS m ON p.movie_id = m.movie_id
),
per_user AS (
  SELECT
    window_start, country, genre, device_type, quality, content_type, user_id,
    COUNT(*) AS sessions,
    SUM(watch_duration_minutes) AS watch_minutes,
    SUM(progress_percentage) AS progress,
    COUNT(progress_percentage) AS progress_known,
    SUM(low_engagement) AS low_engagement,
    SUM(downgraded) AS downgraded,
    SUM(abandoned) AS abandoned,
    COUNT(*) FILTER (WHERE low_engagement + downgraded + abandoned >= 2) AS at_risk,
    MAX(monthly_spend) AS monthly_spend
  FROM signals
  GROUP BY ALL
),
windows AS (
  SELECT
    window_start, country, genre, device_type, quality, content_type,
    SUM(sessions) AS sessions,
    COUNT(user_id) AS active_users,
    SUM(watch_minutes) AS watch_minutes,
    SUM(progress) / SUM(progress_known) AS avg_progress,
    SUM(low_engagement) / SUM(sessions) AS low_engagement_rate,
    SUM(downgraded) / SUM(sessions) AS quality_downgrade_rate,
    SUM(abandoned) / SUM(sessions) AS abandoned_rate,
    SUM(at_risk) AS at_risk,
    SUM(at_risk) / SUM(sessions) AS churn_rate,
    COALESCE(SUM(monthly_spend) FILTER (WHERE at_risk > 0), 0) AS revenue_impact
  FROM per_user
  GROUP BY ALL
)
SELECT
  window_start, country, genre, device_type, quality, content_type,
  sessions, active_users, watch_minutes, avg_progress,
  low_engagement_rate, quality_downgrade_rate, abandoned_rate, churn_rate, revenue_impact,
  CASE
    WHEN 5 * at_risk >= 2 * sessions + 10 THEN 'HIGH'
    WHEN 5 * at_risk >= 2 * sessions AND revenue_impact >= 200 THEN 'HIGH'
    WHEN 5 * at_risk >= 2 * sessions AND revenue_impact >= 30 THEN 'MEDIUM'
    ELSE 'LOW'
  END AS alert_level
FROM windows
