SELECT
  watch_year,
  watch_month,
  country,
  subscription_plan,
  distinct__tag,
  monthly_active_users,
  unique_content_viewed,
  CAST(SUM(total_watch_time_minutes__sum) AS BIGNUMERIC) AS total_watch_time_minutes__sum,
  COALESCE(CAST(SUM(total_sessions__count) AS INT64), 0) AS total_sessions__count,
  COALESCE(CAST(SUM(avg_session_duration__count) AS INT64), 0) AS avg_session_duration__count
FROM states
GROUP BY
  watch_year,
  watch_month,
  country,
  subscription_plan,
  distinct__tag,
  monthly_active_users,
  unique_content_viewed
