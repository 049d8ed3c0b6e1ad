SELECT
  state_1.watch_year AS watch_year,
  state_1.watch_month AS watch_month,
  state_1.country AS country,
  state_1.subscription_plan AS subscription_plan,
  state_1.total_watch_time_minutes AS total_watch_time_minutes,
  state_1.monthly_active_users AS monthly_active_users,
  state_1.total_sessions AS total_sessions,
  state_1.avg_session_duration AS avg_session_duration,
  state_1.unique_content_viewed AS unique_content_viewed
FROM (
  SELECT
    watch_year,
    watch_month,
    country,
    subscription_plan,
    total_watch_time_minutes__sum AS total_watch_time_minutes,
    COALESCE(monthly_active_users, 0) AS monthly_active_users,
    total_sessions__count AS total_sessions,
    CAST(total_watch_time_minutes__sum AS DOUBLE) / NULLIF(CAST(avg_session_duration__count AS DOUBLE), 0) AS avg_session_duration,
    COALESCE(unique_content_viewed, 0) AS unique_content_viewed
  FROM (
    SELECT
      watch_year,
      watch_month,
      country,
      subscription_plan,
      COUNT(monthly_active_users) AS monthly_active_users,
      COUNT(unique_content_viewed) AS unique_content_viewed,
      CAST(SUM(total_watch_time_minutes__sum) AS DECIMAL(38, 2)) AS total_watch_time_minutes__sum,
      COALESCE(CAST(SUM(total_sessions__count) AS BIGINT), 0) AS total_sessions__count,
      COALESCE(CAST(SUM(avg_session_duration__count) AS BIGINT), 0) AS avg_session_duration__count
    FROM state_1
    GROUP BY
      watch_year,
      watch_month,
      country,
      subscription_plan
  ) AS merged
) AS state_1
