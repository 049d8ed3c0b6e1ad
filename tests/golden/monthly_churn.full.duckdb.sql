WITH activity AS (
  SELECT
    state_1.user_id AS user_id,
    state_1.month AS month
  FROM (
    SELECT
      user_id AS user_id,
      CAST(DATE_TRUNC('MONTH', watch_date) AS DATE) AS month
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
      CAST(DATE_TRUNC('MONTH', watch_date) AS DATE)
  ) AS state_1
), counted AS (
  SELECT
    a.month AS month,
    u.country AS country,
    u.subscription_plan AS subscription_plan,
    COUNT(*) AS active_users,
    COUNT(b.user_id) AS returned_users
  FROM activity AS a
  JOIN users AS u
    ON a.user_id = u.user_id
  LEFT JOIN activity AS b
    ON a.user_id = b.user_id
    AND CAST(CAST(a.month AS TIMESTAMP) + INTERVAL '1' MONTH AS DATE) = b.month
  GROUP BY
    a.month,
    u.country,
    u.subscription_plan
), known AS (
  SELECT
    counted.month AS month,
    counted.country AS country,
    counted.subscription_plan AS subscription_plan,
    counted.active_users AS active_users,
    CASE
      WHEN counted.month < MAX(counted.month) OVER ()
      THEN counted.returned_users
    END AS returned_users
  FROM counted AS counted
)
SELECT
  known.month AS month,
  known.country AS country,
  known.subscription_plan AS subscription_plan,
  known.active_users AS active_users,
  known.returned_users AS returned_users,
  known.active_users - known.returned_users AS churned_users,
  CAST(known.active_users - known.returned_users AS DOUBLE) / NULLIF(CAST(known.active_users AS DOUBLE), 0) AS churn_rate
FROM known AS known
