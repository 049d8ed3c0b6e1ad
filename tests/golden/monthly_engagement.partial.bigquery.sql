SELECT
  EXTRACT(YEAR FROM watch_date) AS watch_year,
  EXTRACT(MONTH FROM watch_date) AS watch_month,
  users__country AS country,
  users__subscription_plan AS subscription_plan,
  0 AS distinct__tag,
  CAST(NULL AS STRING) AS monthly_active_users,
  CAST(NULL AS STRING) AS unique_content_viewed,
  CAST(SUM(watch_duration_minutes) AS BIGNUMERIC) AS total_watch_time_minutes__sum,
  COUNT(*) AS total_sessions__count,
  COUNT(watch_duration_minutes) AS avg_session_duration__count
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
  EXTRACT(MONTH FROM watch_date),
  users__country,
  users__subscription_plan
UNION ALL
SELECT
  EXTRACT(YEAR FROM watch_date) AS watch_year,
  EXTRACT(MONTH FROM watch_date) AS watch_month,
  users__country AS country,
  users__subscription_plan AS subscription_plan,
  1 AS distinct__tag,
  user_id AS monthly_active_users,
  CAST(NULL AS STRING) AS unique_content_viewed,
  CAST(NULL AS BIGNUMERIC) AS total_watch_time_minutes__sum,
  CAST(NULL AS INT64) AS total_sessions__count,
  CAST(NULL AS INT64) AS avg_session_duration__count
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
  users__country,
  users__subscription_plan,
  user_id
UNION ALL
SELECT
  EXTRACT(YEAR FROM watch_date) AS watch_year,
  EXTRACT(MONTH FROM watch_date) AS watch_month,
  users__country AS country,
  users__subscription_plan AS subscription_plan,
  2 AS distinct__tag,
  CAST(NULL AS STRING) AS monthly_active_users,
  movie_id AS unique_content_viewed,
  CAST(NULL AS BIGNUMERIC) AS total_watch_time_minutes__sum,
  CAST(NULL AS INT64) AS total_sessions__count,
  CAST(NULL AS INT64) AS avg_session_duration__count
FROM events
WHERE
  (
    users__found
    AND movies__found
    AND NOT watch_date IS NULL
    AND NOT watch_duration_minutes IS NULL
  )
  AND (
    NOT movie_id IS NULL
  )
GROUP BY
  EXTRACT(YEAR FROM watch_date),
  EXTRACT(MONTH FROM watch_date),
  users__country,
  users__subscription_plan,
  movie_id
