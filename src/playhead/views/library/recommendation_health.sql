-- How recommendations are taken up, by type, algorithm, position and day.
-- owner: discovery
-- column day: day of event_time
-- column recommendation_type: why the title was shown
-- column algorithm_version: the model that chose it; NULL where it was not recorded
-- column position_in_list: place in the list, from 1
-- column impressions: recommendations shown
-- column clicks: recommendations clicked
-- column click_through_rate: clicks / impressions, 0 to 1
-- column avg_score: mean score of the model, 0 to 1
-- column users_reached: distinct users, exact
SELECT
  DATE_TRUNC('day', event_time) AS day,
  recommendation_type,
  algorithm_version,
  position_in_list,
  COUNT(*) AS impressions,
  COUNT(*) FILTER (WHERE was_clicked) AS clicks,
  COUNT(*) FILTER (WHERE was_clicked) / COUNT(*) AS click_through_rate,
  AVG(recommendation_score) AS avg_score,
  COUNT(DISTINCT user_id) AS users_reached
FROM impression
GROUP BY ALL
