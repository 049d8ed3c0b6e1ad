SELECT
  state_1.watch_year AS watch_year,
  state_1.watch_month AS watch_month,
  state_1.monthly_active_users AS monthly_active_users,
  state_1.countries AS countries,
  state_1.total_watch_time_minutes AS total_watch_time_minutes
FROM (
  SELECT
    watch_year,
    watch_month,
    COALESCE(monthly_active_users, 0) AS monthly_active_users,
    COALESCE(countries, 0) AS countries,
    total_watch_time_minutes__sum AS total_watch_time_minutes
  FROM (
    SELECT
      watch_year,
      watch_month,
      COUNT(monthly_active_users) AS monthly_active_users,
      COUNT(countries) AS countries,
      CAST(SUM(total_watch_time_minutes__sum) AS DECIMAL(38, 2)) AS total_watch_time_minutes__sum
    FROM state_1
    GROUP BY
      watch_year,
      watch_month
  ) AS merged
) AS state_1
