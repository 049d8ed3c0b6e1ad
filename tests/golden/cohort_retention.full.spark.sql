WITH activity AS (
  SELECT
    state_1.user_id AS user_id,
    state_1.activity_month AS activity_month
  FROM (
    SELECT
      user_id AS user_id,
      CAST(CAST(DATE_TRUNC('MONTH', watch_date) AS TIMESTAMP_NTZ) AS DATE) AS activity_month
    FROM (
      SELECT
        e.user_id,
        e.watch_date,
        e.watch_duration_minutes,
        NOT users.user_id IS NULL AS users__found,
        NOT movies.movie_id IS NULL AS movies__found
      FROM playback AS e
      LEFT JOIN users AS users
        ON e.user_id = users.user_id
      LEFT JOIN movies AS movies
        ON e.movie_id = movies.movie_id
    ) AS events
    WHERE
      users__found
      AND movies__found
      AND NOT watch_date IS NULL
      AND NOT watch_duration_minutes IS NULL
    GROUP BY
      user_id,
      CAST(CAST(DATE_TRUNC('MONTH', watch_date) AS TIMESTAMP_NTZ) AS DATE)
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
  CAST((
    (
      YEAR(a.activity_month) * 12 + MONTH(a.activity_month)
    ) - (
      YEAR(c.cohort_month) * 12 + MONTH(c.cohort_month)
    )
  ) AS BIGINT) AS months_since_cohort,
  s.cohort_size AS cohort_size,
  CAST(COUNT(*) AS DOUBLE) / NULLIF(CAST(s.cohort_size AS DOUBLE), 0) AS retention_rate
FROM activity AS a
JOIN cohorts AS c
  ON a.user_id = c.user_id
JOIN sizes AS s
  ON c.cohort_month = s.cohort_month
GROUP BY
  c.cohort_month,
  a.activity_month,
  s.cohort_size
