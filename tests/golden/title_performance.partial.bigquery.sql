SELECT
  CAST(DATETIME_TRUNC(CAST(watch_date AS DATETIME), MONTH) AS DATE) AS month,
  movie_id AS movie_id,
  0 AS distinct__tag,
  CAST(NULL AS STRING) AS viewers,
  COUNT(*) AS sessions__count,
  CAST(SUM(watch_duration_minutes) AS BIGNUMERIC) AS watch_minutes__sum,
  COUNT(CASE WHEN action = 'completed' THEN 1 END) AS completed_sessions__count,
  CAST(SUM(progress_percentage) AS BIGNUMERIC) AS progress_sum__sum,
  COUNT(progress_percentage) AS progress_known__count,
  CAST(SUM(user_rating) AS INT64) AS rating_sum__sum,
  COUNT(user_rating) AS rated_sessions__count
FROM events
WHERE
  (
    users__found AND NOT watch_date IS NULL AND NOT watch_duration_minutes IS NULL
  )
GROUP BY
  CAST(DATETIME_TRUNC(CAST(watch_date AS DATETIME), MONTH) AS DATE),
  movie_id
UNION ALL
SELECT
  CAST(DATETIME_TRUNC(CAST(watch_date AS DATETIME), MONTH) AS DATE) AS month,
  movie_id AS movie_id,
  1 AS distinct__tag,
  user_id AS viewers,
  CAST(NULL AS INT64) AS sessions__count,
  CAST(NULL AS BIGNUMERIC) AS watch_minutes__sum,
  CAST(NULL AS INT64) AS completed_sessions__count,
  CAST(NULL AS BIGNUMERIC) AS progress_sum__sum,
  CAST(NULL AS INT64) AS progress_known__count,
  CAST(NULL AS INT64) AS rating_sum__sum,
  CAST(NULL AS INT64) AS rated_sessions__count
FROM events
WHERE
  (
    users__found AND NOT watch_date IS NULL AND NOT watch_duration_minutes IS NULL
  )
  AND (
    NOT user_id IS NULL
  )
GROUP BY
  CAST(DATETIME_TRUNC(CAST(watch_date AS DATETIME), MONTH) AS DATE),
  movie_id,
  user_id
