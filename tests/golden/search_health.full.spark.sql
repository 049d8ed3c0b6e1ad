SELECT
  state_1.day AS day,
  state_1.country AS country,
  state_1.device_type AS device_type,
  state_1.searches AS searches,
  state_1.searching_users AS searching_users,
  CAST(state_1.value_3 AS DOUBLE) / NULLIF(CAST(state_1.searches AS DOUBLE), 0) AS zero_result_rate,
  CAST(state_1.value_4 AS DOUBLE) / NULLIF(CAST(state_1.searches AS DOUBLE), 0) AS click_through_rate,
  CAST(state_1.value_5 AS DOUBLE) / NULLIF(CAST(state_1.searches AS DOUBLE), 0) AS typo_rate,
  state_1.avg_clicked_position AS avg_clicked_position,
  state_1.avg_search_seconds AS avg_search_seconds
FROM (
  SELECT
    CAST(DATE_TRUNC('DAY', event_time) AS TIMESTAMP_NTZ) AS day,
    location_country AS country,
    device_type AS device_type,
    COUNT(*) AS searches,
    COUNT(DISTINCT user_id) AS searching_users,
    COUNT(CASE WHEN results_returned = 0 THEN 1 END) AS value_3,
    COUNT(clicked_result_position) AS value_4,
    COUNT(CASE WHEN had_typo THEN 1 END) AS value_5,
    CAST(CAST(SUM(clicked_result_position) AS BIGINT) AS DOUBLE) / NULLIF(CAST(COUNT(clicked_result_position) AS DOUBLE), 0) AS avg_clicked_position,
    CAST(CAST(SUM(search_duration_seconds) AS DECIMAL(38, 2)) AS DOUBLE) / NULLIF(CAST(COUNT(search_duration_seconds) AS DOUBLE), 0) AS avg_search_seconds
  FROM (
    SELECT
      e.event_time,
      e.user_id,
      e.device_type,
      e.results_returned,
      e.clicked_result_position,
      e.search_duration_seconds,
      e.had_typo,
      e.location_country
    FROM search AS e
  ) AS events
  GROUP BY
    CAST(DATE_TRUNC('DAY', event_time) AS TIMESTAMP_NTZ),
    location_country,
    device_type
) AS state_1
