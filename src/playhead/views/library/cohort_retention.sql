-- How many users of each cohort watch again in later months.
-- A user's cohort is the month of the first watch that counts here.
-- Rows without a date or a duration, and rows of unknown users or titles, are left out.
-- owner: analytics
-- column cohort_month: first day of the month of the users' first watch
-- column activity_month: first day of the month in which they watched
-- column active_users: distinct users of the cohort who watched in that month
-- column months_since_cohort: whole months from cohort_month to activity_month
-- column cohort_size: distinct users of the cohort
-- column retention_rate: active_users / cohort_size, 0 to 1
WITH activity AS (
  SELECT
    p.user_id,
    CAST(DATE_TRUNC('month', p.watch_date) AS DATE) AS activity_month
  FROM playback AS p
  JOIN users AS u ON p.user_id = u.user_id
  JOIN movies AS m ON p.movie_id = m.movie_id
  WHERE p.watch_date IS NOT NULL AND p.watch_duration_minutes IS NOT NULL
  GROUP BY ALL
),
cohorts AS (
  SELECT user_id, MIN(activity_month) AS cohort_month
  FROM activity
  GROUP BY user_id
),
sizes AS (
  SELECT cohort_month, COUNT(*) AS cohort_size
  FROM cohorts
  GROUP BY cohort_month
)
SELECT
  c.cohort_month,
  a.activity_month,
  COUNT(*) AS active_users,
  DATE_DIFF('month', c.cohort_month, a.activity_month) AS months_since_cohort,
  s.cohort_size,
  COUNT(*) / s.cohort_size AS retention_rate
FROM activity AS a
JOIN cohorts AS c ON a.user_id = c.user_id
JOIN sizes AS s ON c.cohort_month = s.cohort_month
GROUP BY c.cohort_month, a.activity_month, s.cohort_size
