SELECT
  state_1.watch_year AS watch_year,
  state_1.watch_month AS watch_month,
  state_1.monthly_active_users AS monthly_active_users,
  state_1.countries AS countries,
  state_1.total_watch_time_minutes AS total_watch_time_minutes
FROM (
  SELECT
    YEAR(watch_date) AS watch_year,
    MONTH(watch_date) AS watch_month,
    COUNT(DISTINCT user_id) AS monthly_active_users,
    COUNT(DISTINCT users__country) AS countries,
    CAST(SUM(watch_duration_minutes) AS DECIMAL(38, 2)) AS total_watch_time_minutes
  FROM (
    SELECT
      e.user_id,
      e.watch_date,
      e.watch_duration_minutes,
      users.country AS users__country,
      NOT users.user_id IS NULL AS users__found,
      NOT movies.movie_id IS NULL AS movies__found
    FROM playback AS e
    LEFT JOIN users AS users
      ON e.user_id = users.user_id
    LEFT JOIN movies AS movies
      ON e.movie_id = movies.movie_id
  ) AS events
  WHERE
    users__found
    AND movies__found
    AND NOT watch_date IS NULL
    AND NOT watch_duration_minutes IS NULL
  GROUP BY
    YEAR(watch_date),
    MONTH(watch_date)
) AS state_1
