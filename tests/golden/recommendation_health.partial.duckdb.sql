SELECT
  DATE_TRUNC('DAY', event_time) AS day,
  recommendation_type AS recommendation_type,
  algorithm_version AS algorithm_version,
  position_in_list AS position_in_list,
  0 AS distinct__tag,
  CAST(NULL AS TEXT) AS users_reached,
  COUNT(*) AS impressions__count,
  COUNT(CASE WHEN was_clicked THEN 1 END) AS clicks__count,
  CAST(SUM(recommendation_score) AS DECIMAL(38, 4)) AS avg_score__sum,
  COUNT(recommendation_score) AS avg_score__count
FROM events
GROUP BY
  DATE_TRUNC('DAY', event_time),
  recommendation_type,
  algorithm_version,
  position_in_list
UNION ALL
SELECT
  DATE_TRUNC('DAY', event_time) AS day,
  recommendation_type AS recommendation_type,
  algorithm_version AS algorithm_version,
  position_in_list AS position_in_list,
  1 AS distinct__tag,
  user_id AS users_reached,
  CAST(NULL AS BIGINT) AS impressions__count,
  CAST(NULL AS BIGINT) AS clicks__count,
  CAST(NULL AS DECIMAL(38, 4)) AS avg_score__sum,
  CAST(NULL AS BIGINT) AS avg_score__count
FROM events
WHERE
  (
    NOT user_id IS NULL
  )
GROUP BY
  DATE_TRUNC('DAY', event_time),
  recommendation_type,
  algorithm_version,
  position_in_list,
  user_id
