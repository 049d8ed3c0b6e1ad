SELECT
  watch_year,
  watch_month,
  distinct__tag,
  monthly_active_users,
  countries,
  CAST(SUM(total_watch_time_minutes__sum) AS BIGNUMERIC) AS total_watch_time_minutes__sum
FROM states
GROUP BY
  watch_year,
  watch_month,
  distinct__tag,
  monthly_active_users,
  countries
