SELECT
  state_1.day AS day,
  state_1.recommendation_type AS recommendation_type,
  state_1.algorithm_version AS algorithm_version,
  state_1.position_in_list AS position_in_list,
  state_1.impressions AS impressions,
  state_1.clicks AS clicks,
  CAST(state_1.clicks AS DOUBLE) / NULLIF(CAST(state_1.impressions AS DOUBLE), 0) AS click_through_rate,
  state_1.avg_score AS avg_score,
  state_1.users_reached AS users_reached
FROM (
  SELECT
    day,
    recommendation_type,
    algorithm_version,
    position_in_list,
    impressions__count AS impressions,
    clicks__count AS clicks,
    CAST(avg_score__sum AS DOUBLE) / NULLIF(CAST(avg_score__count AS DOUBLE), 0) AS avg_score,
    COALESCE(users_reached, 0) AS users_reached
  FROM (
    SELECT
      day,
      recommendation_type,
      algorithm_version,
      position_in_list,
      COUNT(users_reached) AS users_reached,
      COALESCE(CAST(SUM(impressions__count) AS BIGINT), 0) AS impressions__count,
      COALESCE(CAST(SUM(clicks__count) AS BIGINT), 0) AS clicks__count,
      CAST(SUM(avg_score__sum) AS DECIMAL(38, 4)) AS avg_score__sum,
      COALESCE(CAST(SUM(avg_score__count) AS BIGINT), 0) AS avg_score__count
    FROM state_1
    GROUP BY
      day,
      recommendation_type,
      algorithm_version,
      position_in_list
  ) AS merged
) AS state_1
