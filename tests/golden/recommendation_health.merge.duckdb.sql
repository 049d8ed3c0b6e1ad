SELECT
  day,
  recommendation_type,
  algorithm_version,
  position_in_list,
  distinct__tag,
  users_reached,
  COALESCE(CAST(SUM(impressions__count) AS BIGINT), 0) AS impressions__count,
  COALESCE(CAST(SUM(clicks__count) AS BIGINT), 0) AS clicks__count,
  CAST(SUM(avg_score__sum) AS DECIMAL(38, 4)) AS avg_score__sum,
  COALESCE(CAST(SUM(avg_score__count) AS BIGINT), 0) AS avg_score__count
FROM states
GROUP BY
  day,
  recommendation_type,
  algorithm_version,
  position_in_list,
  distinct__tag,
  users_reached
