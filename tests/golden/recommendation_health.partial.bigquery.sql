SELECT
  DATETIME_TRUNC(CAST(event_time AS DATETIME), DAY) AS day,
  recommendation_type AS recommendation_type,
  algorithm_version AS algorithm_version,
  position_in_list AS position_in_list,
  0 AS distinct__tag,
  CAST(NULL AS STRING) AS users_reached,
  COUNT(*) AS impressions__count,
  COUNT(CASE WHEN was_clicked THEN 1 END) AS clicks__count,
  CAST(SUM(recommendation_score) AS BIGNUMERIC) AS avg_score__sum,
  COUNT(recommendation_score) AS avg_score__count
FROM events
GROUP BY
  DATETIME_TRUNC(CAST(event_time AS DATETIME), DAY),
  recommendation_type,
  algorithm_version,
  position_in_list
UNION ALL
SELECT
  DATETIME_TRUNC(CAST(event_time AS DATETIME), DAY) AS day,
  recommendation_type AS recommendation_type,
  algorithm_version AS algorithm_version,
  position_in_list AS position_in_list,
  1 AS distinct__tag,
  user_id AS users_reached,
  CAST(NULL AS INT64) AS impressions__count,
  CAST(NULL AS INT64) AS clicks__count,
  CAST(NULL AS BIGNUMERIC) AS avg_score__sum,
  CAST(NULL AS INT64) AS avg_score__count
FROM events
WHERE
  (
    NOT user_id IS NULL
  )
GROUP BY
  DATETIME_TRUNC(CAST(event_time AS DATETIME), DAY),
  recommendation_type,
  algorithm_version,
  position_in_list,
  user_id
