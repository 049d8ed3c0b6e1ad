-- Whether people find what they search for, by day, country and device.
-- owner: discovery
-- column day: day of event_time
-- column country: where the search was made
-- column device_type: the device
-- column searches: searches made
-- column searching_users: distinct users, exact
-- column zero_result_rate: share of searches without a result, 0 to 1
-- column click_through_rate: share of searches with a click on a result, 0 to 1
-- column typo_rate: share of searches with a typing error, 0 to 1
-- column avg_clicked_position: mean position of the clicked result, from 1
-- column avg_search_seconds: mean duration of a search in seconds
SELECT
  DATE_TRUNC('day', event_time) AS day,
  location_country AS country,
  device_type,
  COUNT(*) AS searches,
  COUNT(DISTINCT user_id) AS searching_users,
  COUNT(*) FILTER (WHERE results_returned = 0) / COUNT(*) AS zero_result_rate,
  COUNT(clicked_result_position) / COUNT(*) AS click_through_rate,
  COUNT(*) FILTER (WHERE had_typo) / COUNT(*) AS typo_rate,
  AVG(clicked_result_position) AS avg_clicked_position,
  AVG(search_duration_seconds) AS avg_search_seconds
FROM search
GROUP BY ALL
