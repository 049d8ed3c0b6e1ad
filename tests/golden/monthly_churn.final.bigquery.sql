WITH activity AS (
  SELECT
    state_1.user_id AS user_id,
    state_1.month AS month
  FROM (
    SELECT
      user_id,
      month
    FROM state_1
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
    AND CAST(CAST(a.month AS DATETIME) + INTERVAL '1' MONTH AS DATE) = b.month
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
  CAST(known.active_users - known.returned_users AS FLOAT64) / NULLIF(CAST(known.active_users AS FLOAT64), 0) AS churn_rate
FROM known AS known
