SELECT
  user_id,
  month
FROM states
GROUP BY
  user_id,
  month
