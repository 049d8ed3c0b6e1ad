SELECT
  CAST(DATE_TRUNC('DAY', event_time) AS TIMESTAMP_NTZ) AS day,
  location_country AS country,
  device_type AS device_type,
  0 AS distinct__tag,
  CAST(NULL AS STRING) AS searching_users,
  COUNT(*) AS searches__count,
  COUNT(CASE WHEN results_returned = 0 THEN 1 END) AS value_3__count,
  COUNT(clicked_result_position) AS value_4__count,
  COUNT(CASE WHEN had_typo THEN 1 END) AS value_5__count,
  CAST(SUM(clicked_result_position) AS BIGINT) AS avg_clicked_position__sum,
  CAST(SUM(search_duration_seconds) AS DECIMAL(38, 2)) AS avg_search_seconds__sum,
  COUNT(search_duration_seconds) AS avg_search_seconds__count
FROM events
GROUP BY
  CAST(DATE_TRUNC('DAY', event_time) AS TIMESTAMP_NTZ),
  location_country,
  device_type
UNION ALL
SELECT
  CAST(DATE_TRUNC('DAY', event_time) AS TIMESTAMP_NTZ) AS day,
  location_country AS country,
  device_type AS device_type,
  1 AS distinct__tag,
  user_id AS searching_users,
  CAST(NULL AS BIGINT) AS searches__count,
  CAST(NULL AS BIGINT) AS value_3__count,
  CAST(NULL AS BIGINT) AS value_4__count,
  CAST(NULL AS BIGINT) AS value_5__count,
  CAST(NULL AS BIGINT) AS avg_clicked_position__sum,
  CAST(NULL AS DECIMAL(38, 2)) AS avg_search_seconds__sum,
  CAST(NULL AS BIGINT) AS avg_search_seconds__count
FROM events
WHERE
  (
    NOT user_id IS NULL
  )
GROUP BY
  CAST(DATE_TRUNC('DAY', event_time) AS TIMESTAMP_NTZ),
  location_country,
  device_type,
  user_id
