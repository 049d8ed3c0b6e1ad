SELECT
  user_id AS user_id,
  CAST(DATE_TRUNC('MONTH', watch_date) AS DATE) AS month
FROM events
WHERE
  (
    users__found
    AND movies__found
    AND NOT watch_date IS NULL
    AND NOT watch_duration_minutes IS NULL
  )
GROUP BY
  user_id,
  CAST(DATE_TRUNC('MONTH', watch_date) AS DATE)
