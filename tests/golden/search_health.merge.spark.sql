SELECT
  day,
  country,
  device_type,
  distinct__tag,
  searching_users,
  COALESCE(CAST(SUM(searches__count) AS BIGINT), 0) AS searches__count,
  COALESCE(CAST(SUM(value_3__count) AS BIGINT), 0) AS value_3__count,
  COALESCE(CAST(SUM(value_4__count) AS BIGINT), 0) AS value_4__count,
  COALESCE(CAST(SUM(value_5__count) AS BIGINT), 0) AS value_5__count,
  CAST(SUM(avg_clicked_position__sum) AS BIGINT) AS avg_clicked_position__sum,
  CAST(SUM(avg_search_seconds__sum) AS DECIMAL(38, 2)) AS avg_search_seconds__sum,
  COALESCE(CAST(SUM(avg_search_seconds__count) AS BIGINT), 0) AS avg_search_seconds__count
FROM states
GROUP BY
  day,
  country,
  device_type,
  distinct__tag,
  searching_users
