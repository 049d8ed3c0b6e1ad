SELECT
  state_1.day AS day,
  state_1.recommendation_type AS recommendation_type,
  state_1.algorithm_version AS algorithm_version,
  state_1.position_in_list AS position_in_list,
  state_1.impressions AS impressions,
  state_1.clicks AS clicks,
  CAST(state_1.clicks AS FLOAT64) / NULLIF(CAST(state_1.impressions AS FLOAT64), 0) AS click_through_rate,
  state_1.avg_score AS avg_score,
  state_1.users_reached AS users_reached
FROM (
  SELECT
    DATETIME_TRUNC(CAST(event_time AS DATETIME), DAY) AS day,
    recommendation_type AS recommendation_type,
    algorithm_version AS algorithm_version,
    position_in_list AS position_in_list,
    COUNT(*) AS impressions,
    COUNT(CASE WHEN was_clicked THEN 1 END) AS clicks,
    CAST(CAST(SUM(recommendation_score) AS BIGNUMERIC) AS FLOAT64) / NULLIF(CAST(COUNT(recommendation_score) AS FLOAT64), 0) AS avg_score,
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
    DATETIME_TRUNC(CAST(event_time AS DATETIME), DAY),
    recommendation_type,
    algorithm_version,
    position_in_list
) AS state_1
