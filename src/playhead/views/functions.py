"""The canonical set of functions, and why anything else is refused.

Only functions that every engine computes to the same digits, whatever the order of the rows,
may stand in a view. Everything outside the set is refused by name.
"""

from sqlglot import exp

from playhead.errors import NotMergeableError

MERGEABLE = (
    exp.Count,
    exp.CountIf,
    exp.Sum,
    exp.Avg,
    exp.Min,
    exp.Max,
    exp.ArgMax,
    exp.ArgMin,
    exp.LogicalOr,
    exp.LogicalAnd,
    exp.Stddev,
    exp.StddevSamp,
    exp.StddevPop,
    exp.Variance,
    exp.VariancePop,
)
"""Aggregates with an exact, mergeable state."""

ABOVE_ONLY = (exp.Median,)
"""Order-free aggregates without a small state: allowed above the lowest GROUP BY only."""

WINDOW_ONLY = (
    exp.RowNumber,
    exp.Rank,
    exp.DenseRank,
    exp.PercentRank,
    exp.CumeDist,
    exp.Ntile,
    exp.Lag,
    exp.Lead,
    exp.FirstValue,
    exp.LastValue,
    exp.NthValue,
)

SCALAR = (
    exp.Abs, exp.And, exp.Case, exp.Cast, exp.Ceil, exp.Coalesce, exp.Concat, exp.Contains,
    exp.Date, exp.DateAdd, exp.DateBin, exp.DateDiff, exp.DateFromParts, exp.DateTrunc, exp.Day,
    exp.DayOfWeek, exp.DayOfWeekIso, exp.DayOfYear, exp.EndsWith, exp.Extract, exp.Floor,
    exp.Greatest, exp.Hour, exp.If, exp.Least, exp.Left, exp.Length, exp.Lower, exp.Minute,
    exp.Month, exp.Nullif, exp.Or, exp.Quarter, exp.Replace, exp.Right, exp.Round, exp.Second,
    exp.Sign, exp.Sqrt, exp.StartsWith, exp.Struct, exp.Substring, exp.TimestampTrunc, exp.Trim,
    exp.TryCast, exp.Upper, exp.Week, exp.WeekOfYear, exp.Year,
)  # fmt: skip
"""Scalar functions of the canonical set (a text may spell some of them in several ways)."""

EXTRACTABLE = {
    "year", "quarter", "month", "week", "day", "hour", "minute", "second", "dayofweek", "dow",
    "isodow", "dayofyear", "doy",
}  # fmt: skip

_NOT_REPEATABLE = "its value changes from one run to the next, so a recomputation would differ"
_ORDER = "its result depends on the order in which rows arrive"
_NO_STATE = "it needs every value at once: no small partial result of it can be merged exactly"
_FLOAT = "it is computed in floating point, where the order of the rows changes the digits"

REFUSED_FUNCTIONS: dict[str, tuple[str, str]] = {
    "median": (_NO_STATE, "use AVG, MIN/MAX, or COUNT(*) FILTER over value ranges; above the "
               "lowest GROUP BY a MEDIAN of its rows is allowed"),
    "quantile_cont": (_NO_STATE, "count values by range with COUNT(*) FILTER (WHERE ...)"),
    "quantile_disc": (_NO_STATE, "count values by range with COUNT(*) FILTER (WHERE ...)"),
    "percentile_cont": (_NO_STATE, "count values by range with COUNT(*) FILTER (WHERE ...)"),
    "percentile_disc": (_NO_STATE, "count values by range with COUNT(*) FILTER (WHERE ...)"),
    "quantile": (_NO_STATE, "count values by range with COUNT(*) FILTER (WHERE ...)"),
    "mode": (_NO_STATE, "GROUP BY the value with COUNT(*), and rank the groups above it"),
    "approx_count_distinct": ("a sketch is not exact", "write COUNT(DISTINCT x)"),
    "approx_quantile": ("a sketch is not exact", "count values by range"),
    "first": (_ORDER, "write ARG_MIN(x, event_time)"),
    "last": (_ORDER, "write ARG_MAX(x, event_time)"),
    "any_value": (_ORDER, "write MIN(x) or MAX(x)"),
    "array_agg": (_ORDER, "GROUP BY the value, or keep it with ARG_MAX(x, event_time)"),
    "list": (_ORDER, "GROUP BY the value, or keep it with ARG_MAX(x, event_time)"),
    "string_agg": (_ORDER, "GROUP BY the value"),
    "group_concat": (_ORDER, "GROUP BY the value"),
    "listagg": (_ORDER, "GROUP BY the value"),
    "now": (_NOT_REPEATABLE, "compare with event_time, or filter in the query on the view"),
    "current_timestamp": (_NOT_REPEATABLE, "filter in the query on the view"),
    "current_date": (_NOT_REPEATABLE, "filter in the query on the view"),
    "current_time": (_NOT_REPEATABLE, "filter in the query on the view"),
    "localtimestamp": (_NOT_REPEATABLE, "filter in the query on the view"),
    "random": (_NOT_REPEATABLE, "sample by a column, such as a part of the user_id"),
    "rand": (_NOT_REPEATABLE, "sample by a column, such as a part of the user_id"),
    "uuid": (_NOT_REPEATABLE, "use event_id"),
    "product": (_FLOAT, "no exact form exists"),
    "fsum": (_FLOAT, "write SUM of a DECIMAL"),
    "favg": (_FLOAT, "write AVG of a DECIMAL"),
    "corr": (_FLOAT, "SUM the products of DECIMAL columns and divide"),
    "date_sub": ("it counts whole units in DuckDB, and subtracts a duration elsewhere",
                 "DATE_DIFF for boundaries between two dates, or x - INTERVAL"),
    "strftime": ("engines have other format letters", "YEAR, MONTH, DAY, DATE_TRUNC"),
    "power": (_FLOAT, "multiply DECIMAL columns"),
    "regexp_matches": ("engines have other regular expressions", "LIKE, CONTAINS, STARTS_WITH"),
    "last_day": ("engines lack it", "DATE_TRUNC('month', x) + INTERVAL 1 MONTH - INTERVAL 1 DAY"),
    "epoch": ("engines count from other zones", "DATE_DIFF('second', TIMESTAMP '1970-01-01', x)"),
    "grouping": ("grouping sets are not compiled", "write one view for each grouping"),
}  # fmt: skip


def function_name(node: exp.Expr) -> str:
    """The function's name as a user would write it."""
    if isinstance(node, exp.Anonymous):
        return str(node.name).lower()
    special: dict[type, str] = {
        exp.First: "first", exp.Last: "last", exp.AnyValue: "any_value", exp.ArrayAgg: "array_agg",
        exp.GroupConcat: "string_agg", exp.ApproxDistinct: "approx_count_distinct",
        exp.Rand: "random", exp.PercentileCont: "quantile_cont",
        exp.PercentileDisc: "quantile_disc", exp.LogicalOr: "bool_or", exp.LogicalAnd: "bool_and",
        exp.TimestampTrunc: "date_trunc", exp.DateBin: "time_bucket", exp.TimeToStr: "strftime",
        exp.RegexpLike: "regexp_matches", exp.StrPosition: "position", exp.TimeToUnix: "epoch",
        exp.UnixToTime: "to_timestamp", exp.Explode: "unnest",
    }  # fmt: skip
    return special.get(type(node), node.sql_name().lower() if isinstance(node, exp.Func) else "")


def position(node: exp.Expr) -> str:
    """`line N: ` where the parser recorded a place, else nothing."""
    for part in node.walk():
        if line := part.meta.get("line"):
            return f"line {line}: "
    return ""


def refuse(node: exp.Expr, what: str, why: str, instead: str) -> NotMergeableError:
    """The refusal of one construct: where, what, why, and what to write instead."""
    return NotMergeableError(
        f"{position(node)}{what} is refused: {why}", hint=f"Instead: {instead}."
    )


def refuse_function(node: exp.Expr) -> NotMergeableError:
    """The refusal of a function by its name."""
    name = function_name(node)
    why, instead = REFUSED_FUNCTIONS.get(
        name,
        (
            "it is not in the canonical set, so engines might give different digits",
            "use a function listed in docs/views.md",
        ),
    )
    return refuse(node, name.upper(), why, instead)


def is_session_window(node: exp.Expr | None) -> bool:
    """Whether the node is `session_window(time, gap)`."""
    return isinstance(node, exp.Anonymous) and node.name.lower() == "session_window"


def is_window_function(node: exp.Expr) -> bool:
    """Whether an aggregate is the function of an OVER clause, rather than inside it."""
    holder = node.parent
    while isinstance(holder, (exp.Filter, exp.IgnoreNulls, exp.RespectNulls)):
        node, holder = holder, holder.parent
    return isinstance(holder, exp.Window) and holder.this is node
