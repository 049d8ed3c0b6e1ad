SELECT
  EXTRACT(YEAR FROM watch_date) AS watch_year,
  EXTRACT(MONTH FROM watch_date) AS watch_month,
  0 AS distinct__tag,
  CAST(NULL AS STRING) AS monthly_active_users,
  CAST(NULL AS STRING) AS countries,
  CAST(SUM(watch_duration_minutes) AS BIGNUMERIC) AS total_watch_time_minutes__sum
FROM events
WHERE
  (
    users__found
    AND movies__found
    AND NOT watch_date IS NULL
    AND NOT watch_duration_minutes IS NULL
  )
GROUP BY
  EXTRACT(YEAR FROM watch_date),
  EXTRACT(MONTH FROM watch_date)
UNION ALL
SELECT
  EXTRACT(YEAR FROM watch_date) AS watch_year,
  EXTRACT(MONTH FROM watch_date) AS watch_month,
  1 AS distinct__tag,
  user_id AS monthly_active_users,
  CAST(NULL AS STRING) AS countries,
  CAST(NULL AS BIGNUMERIC) AS total_watch_time_minutes__sum
FROM events
WHERE
  (
    users__found
    AND movies__found
    AND NOT watch_date IS NULL
    AND NOT watch_duration_minutes IS NULL
  )
  AND (
    NOT user_id IS NULL
  )
GROUP BY
  EXTRACT(YEAR FROM watch_date),
  EXTRACT(MONTH FROM watch_date),
  user_id
UNION ALL
SELECT
  EXTRACT(YEAR FROM watch_date) AS watch_year,
  EXTRACT(MONTH FROM watch_date) AS watch_month,
  2 AS distinct__tag,
  CAST(NULL AS STRING) AS monthly_active_users,
  users__country AS countries,
  CAST(NULL AS BIGNUMERIC) AS total_watch_time_minutes__sum
FROM events
WHERE
  (
    users__found
    AND movies__found
    AND NOT watch_date IS NULL
    AND NOT watch_duration_minutes IS NULL
  )
  AND (
    NOT users__country IS NULL
  )
GROUP BY
  EXTRACT(YEAR FROM watch_date),
  EXTRACT(MONTH FROM watch_date),
  users__country
