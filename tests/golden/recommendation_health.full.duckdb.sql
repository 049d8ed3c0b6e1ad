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
    DATE_TRUNC('DAY', event_time) AS day,
    recommendation_type AS recommendation_type,
    algorithm_version AS algorithm_version,
    position_in_list AS position_in_list,
    COUNT(*) AS impressions,
    COUNT(CASE WHEN was_clicked THEN 1 END) AS clicks,
    CAST(CAST(SUM(recommendation_score) AS DECIMAL(38, 4)) AS DOUBLE) / NULLIF(CAST(COUNT(recommendation_score) AS DOUBLE), 0) AS avg_score,
    COUNT(DISTINCT user_id) AS users_reached
  FROM (
    SELECT
      e.event_time,
      e.user_id,
      e.recommendation_type,
      e.recommendation_score,
      e.was_clicked,
      e.position_in_list,
      e.algorithm_version
    FROM impression AS e
  ) AS events
  GROUP BY
    DATE_TRUNC('DAY', event_time),
    recommendation_type,
    algorithm_version,
    position_in_list
) AS state_1
