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
    day,
    country,
    device_type,
    searches__count AS searches,
    COALESCE(searching_users, 0) AS searching_users,
    value_3__count AS value_3,
    value_4__count AS value_4,
    value_5__count AS value_5,
    CAST(avg_clicked_position__sum AS DOUBLE) / NULLIF(CAST(value_4__count AS DOUBLE), 0) AS avg_clicked_position,
    CAST(avg_search_seconds__sum AS DOUBLE) / NULLIF(CAST(avg_search_seconds__count AS DOUBLE), 0) AS avg_search_seconds
  FROM (
    SELECT
      day,
      country,
      device_type,
      COUNT(searching_users) AS searching_users,
      COALESCE(CAST(SUM(searches__count) AS BIGINT), 0) AS searches__count,
      COALESCE(CAST(SUM(value_3__count) AS BIGINT), 0) AS value_3__count,
      COALESCE(CAST(SUM(value_4__count) AS BIGINT), 0) AS value_4__count,
      COALESCE(CAST(SUM(value_5__count) AS BIGINT), 0) AS value_5__count,
      CAST(SUM(avg_clicked_position__sum) AS BIGINT) AS avg_clicked_position__sum,
      CAST(SUM(avg_search_seconds__sum) AS DECIMAL(38, 2)) AS avg_search_seconds__sum,
      COALESCE(CAST(SUM(avg_search_seconds__count) AS BIGINT), 0) AS avg_search_seconds__count
    FROM state_1
    GROUP BY
      day,
      country,
      device_type
  ) AS merged
) AS state_1
