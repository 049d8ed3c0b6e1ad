SELECT
  user_id,
  activity_month
FROM states
GROUP BY
  user_id,
  activity_month
