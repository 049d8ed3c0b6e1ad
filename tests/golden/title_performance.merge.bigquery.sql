SELECT
  month,
  movie_id,
  distinct__tag,
  viewers,
  COALESCE(CAST(SUM(sessions__count) AS INT64), 0) AS sessions__count,
  CAST(SUM(watch_minutes__sum) AS BIGNUMERIC) AS watch_minutes__sum,
  COALESCE(CAST(SUM(completed_sessions__count) AS INT64), 0) AS completed_sessions__count,
  CAST(SUM(progress_sum__sum) AS BIGNUMERIC) AS progress_sum__sum,
  COALESCE(CAST(SUM(progress_known__count) AS INT64), 0) AS progress_known__count,
  CAST(SUM(rating_sum__sum) AS INT64) AS rating_sum__sum,
  COALESCE(CAST(SUM(rated_sessions__count) AS INT64), 0) AS rated_sessions__count
FROM states
GROUP BY
  month,
  movie_id,
  distinct__tag,
  viewers
