WITH activity AS (
  SELECT
    state_1.user_id AS user_id,
    state_1.activity_month AS activity_month
  FROM (
    SELECT
      user_id,
      activity_month
    FROM state_1
  ) AS state_1
), cohorts AS (
  SELECT
    activity.user_id AS user_id,
    MIN(activity.activity_month) AS cohort_month
  FROM activity AS activity
  GROUP BY
    activity.user_id
), sizes AS (
  SELECT
    cohorts.cohort_month AS cohort_month,
    COUNT(*) AS cohort_size
  FROM cohorts AS cohorts
  GROUP BY
    cohorts.cohort_month
)
SELECT
  c.cohort_month AS cohort_month,
  a.activity_month AS activity_month,
  COUNT(*) AS active_users,
  DATETIME_DIFF(CAST(a.activity_month AS DATETIME), CAST(c.cohort_month AS DATETIME), MONTH) AS months_since_cohort,
  s.cohort_size AS cohort_size,
  CAST(COUNT(*) AS FLOAT64) / NULLIF(CAST(s.cohort_size AS FLOAT64), 0) AS retention_rate
FROM activity AS a
JOIN cohorts AS c
  ON a.user_id = c.user_id
JOIN sizes AS s
  ON c.cohort_month = s.cohort_month
GROUP BY
  c.cohort_month,
  a.activity_month,
  s.cohort_size
