-- Which users of a month are gone in the next one, by month, country and plan.
-- A user has churned from a month when nothing was watched in the month right after it; who
-- comes back later is active again then. The newest month of all has no month after it yet: it
-- says who is active, and nothing about churn. While it still runs, the month before it counts
-- as churned all who have not watched again so far. A user has one country and one plan, so
-- counts of a month add up over both.
-- Rows without a date or a duration, and rows of unknown users or titles, are left out.
-- owner: analytics
-- column month: first day of the month of watch_date
-- column country: the user's country
-- column subscription_plan: the user's plan
-- column active_users: distinct users who watched in that month, exact
-- column returned_users: those of them who watched in the next month too; NULL in the newest month
-- column churned_users: active_users - returned_users; NULL in the newest month
-- column churn_rate: churned_users / active_users, 0 to 1; NULL in the newest month
WITH activity AS (
  SELECT p.user_id, CAST(DATE_TRUNC('month', p.watch_date) AS DATE) AS month
  FROM playback AS p
  JOIN users AS u ON p.user_id = u.user_id
  JOIN movies AS m ON p.movie_id = m.movie_id
  WHERE p.watch_date IS NOT NULL AND p.watch_duration_minutes IS NOT NULL
  GROUP BY ALL
),
counted AS (
  SELECT
    a.month, u.country, u.subscription_plan,
    COUNT(*) AS active_users,
    COUNT(b.user_id) AS returned_users
  FROM activity AS a
  JOIN users AS u ON a.user_id = u.user_id
  LEFT JOIN activity AS b
    ON a.user_id = b.user_id AND CAST(a.month + INTERVAL 1 MONTH AS DATE) = b.month
  GROUP BY ALL
),
known AS (
  SELECT
    month, country, subscription_plan, active_users,
    CASE WHEN month < MAX(month) OVER () THEN returned_users END AS returned_users
  FROM counted
)
SELECT
  month, country, subscription_plan, active_users, returned_users,
  active_users - returned_users AS churned_users,
  (active_users - returned_users) / active_users AS churn_rate
FROM known
