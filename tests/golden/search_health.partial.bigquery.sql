SELECT
  DATETIME_TRUNC(CAST(event_time AS DATETIME), DAY) AS day,
  location_country AS country,
  device_type AS device_type,
  0 AS distinct__tag,
  CAST(NULL AS STRING) AS searching_users,
  COUNT(*) AS searches__count,
  COUNT(CASE WHEN results_returned = 0 THEN 1 END) AS value_3__count,
  COUNT(clicked_result_position) AS value_4__count,
  COUNT(CASE WHEN had_typo THEN 1 END) AS value_5__count,
  CAST(SUM(clicked_result_position) AS INT64) AS avg_clicked_position__sum,
  CAST(SUM(search_duration_seconds) AS BIGNUMERIC) AS avg_search_seconds__sum,
  COUNT(search_duration_seconds) AS avg_search_seconds__count
FROM events
GROUP BY
  DATETIME_TRUNC(CAST(event_time AS DATETIME), DAY),
  location_country,
  device_type
UNION ALL
SELECT
  DATETIME_TRUNC(CAST(event_time AS DATETIME), DAY) AS day,
  location_country AS country,
  device_type AS device_type,
  1 AS distinct__tag,
  user_id AS searching_users,
  CAST(NULL AS INT64) AS searches__count,
  CAST(NULL AS INT64) AS value_3__count,
  CAST(NULL AS INT64) AS value_4__count,
  CAST(NULL AS INT64) AS value_5__count,
  CAST(NULL AS INT64) AS avg_clicked_position__sum,
  CAST(NULL AS BIGNUMERIC) AS avg_search_seconds__sum,
  CAST(NULL AS INT64) AS avg_search_seconds__count
FROM events
WHERE
  (
    NOT user_id IS NULL
  )
GROUP BY
  DATETIME_TRUNC(CAST(event_time AS DATETIME), DAY),
  location_country,
  device_type,
  user_id
