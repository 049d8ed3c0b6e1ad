SELECT
  YEAR(watch_date) AS watch_year,
  MONTH(watch_date) AS watch_month,
  users__country AS country,
  users__subscription_plan AS subscription_plan,
  0 AS distinct__tag,
  CAST(NULL AS STRING) AS monthly_active_users,
  CAST(NULL AS STRING) AS unique_content_viewed,
  CAST(SUM(watch_duration_minutes) AS DECIMAL(38, 2)) AS total_watch_time_minutes__sum,
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
  YEAR(watch_date),
  MONTH(watch_date),
  users__country,
  users__subscription_plan
UNION ALL
SELECT
  YEAR(watch_date) AS watch_year,
  MONTH(watch_date) AS watch_month,
  users__country AS country,
  users__subscription_plan AS subscription_plan,
  1 AS distinct__tag,
  user_id AS monthly_active_users,
  CAST(NULL AS STRING) AS unique_content_viewed,
  CAST(NULL AS DECIMAL(38, 2)) AS total_watch_time_minutes__sum,
  CAST(NULL AS BIGINT) AS total_sessions__count,
  CAST(NULL AS BIGINT) AS avg_session_duration__count
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
  YEAR(watch_date),
  MONTH(watch_date),
  users__country,
  users__subscription_plan,
  user_id
UNION ALL
SELECT
  YEAR(watch_date) AS watch_year,
  MONTH(watch_date) AS watch_month,
  users__country AS country,
  users__subscription_plan AS subscription_plan,
  2 AS distinct__tag,
  CAST(NULL AS STRING) AS monthly_active_users,
  movie_id AS unique_content_viewed,
  CAST(NULL AS DECIMAL(38, 2)) AS total_watch_time_minutes__sum,
  CAST(NULL AS BIGINT) AS total_sessions__count,
  CAST(NULL AS BIGINT) AS avg_session_duration__count
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
  YEAR(watch_date),
  MONTH(watch_date),
  users__country,
  users__subscription_plan,
  movie_id
