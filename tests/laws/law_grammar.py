"""Random views, made from the grammar that the compiler supports."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

EXACT, FLOAT, TEXT, TIME, DATE, BOOL = "exact", "float", "text", "time", "date", "bool"
WIDE = "wide"  # whole numbers up to the ends of their types: no arithmetic

EVENT_COLUMNS = {
    "user_id": TEXT, "friend_id": TEXT, "movie_id": TEXT, "action": TEXT, "event_time": TIME,
    "day": DATE, "minutes": EXACT, "score": EXACT, "ratio": FLOAT, "small": FLOAT, "flag": BOOL,
    "n": EXACT, "i8": WIDE, "i16": WIDE, "i32": WIDE, "i64": WIDE, "u8": WIDE, "u16": WIDE,
    "u32": WIDE, "u64": WIDE,
}  # fmt: skip
USER_COLUMNS = {"country": TEXT, "subscription_plan": TEXT, "age": EXACT, "monthly_spend": EXACT}
MOVIE_COLUMNS = {"genre_primary": TEXT, "duration_minutes": EXACT}

Columns = dict[str, str]
T = TypeVar("T")


@dataclass
class RandomView:
    """A view's text; `plain` tells whether DuckDB itself gives the one right answer to it."""

    sql: str
    plain: bool


class Grammar:
    """Makes texts out of a source of randomness (one that Hypothesis can shrink).

    Args:
        events: the columns of the topic that the texts may read; these have to be among them:
            event_time, user_id, friend_id, movie_id and minutes.
    """

    def __init__(self, r: random.Random, events: Columns | None = None) -> None:
        self._r = r
        self._events = events or EVENT_COLUMNS
        self.plain = True

    def view(self) -> RandomView:
        forms = [
            self._grouped, self._grouped, self._two_levels, self._two_levels, self._windows,
            self._sessions, self._latest, self._distinct, self._union, self._joined, self._shares,
        ]  # fmt: skip
        sql = self._pick(forms)()
        return RandomView(sql, self.plain)

    # -- forms ---------------------------------------------------------------------------

    def _grouped(self) -> str:
        source, columns = self._rows()
        keys = self._keys(columns, self._r.randrange(4))
        aggregates = self._aggregates(columns, 1 + self._r.randrange(4))
        items = [f"{sql} AS k{i}" for i, sql in enumerate(keys)]
        items += [f"{sql} AS a{i}" for i, sql in enumerate(aggregates)]
        sql = f"SELECT {', '.join(items)} FROM {source}"
        if keys:
            sql += " GROUP BY " + self._group_by(keys, [f"k{i}" for i in range(len(keys))], columns)
        if self._maybe(0.3):
            sql += f" HAVING COUNT(*) > {self._r.randrange(4)}"
        return sql + self._ordered([f"k{i}" for i in range(len(keys))], len(aggregates))

    def _group_by(self, keys: Sequence[str], names: Sequence[str], columns: Columns) -> str:
        match self._r.randrange(4):
            case 0:
                return "ALL"
            case 1:
                return ", ".join(str(i + 1) for i in range(len(keys)))
            case 2:
                return ", ".join(names)
            case _:
                return ", ".join(keys)

    def _two_levels(self) -> str:
        inner, keys, numbers = self._inner()
        kept = [k for k in keys if self._maybe(0.6)]
        columns = {**keys, **dict.fromkeys(numbers, EXACT)}
        aggregates = self._aggregates(columns, 1 + self._r.randrange(3), above=True)
        items = [f"{k} AS g_{k}" for k in kept]
        items += [f"{sql} AS b{i}" for i, sql in enumerate(aggregates)]
        sql = f"WITH a AS ({inner}) SELECT {', '.join(items)} FROM a"
        if self._maybe(0.3):
            sql += f" WHERE {self._condition(columns)}"
        if kept:
            sql += f" GROUP BY {', '.join(kept)}"
        if self._maybe(0.2):
            sql += " HAVING COUNT(*) > 1"
        return sql + self._ordered([f"g_{k}" for k in kept], len(aggregates), letter="b")

    def _inner(self) -> tuple[str, Columns, list[str]]:
        """A grouped SELECT, its keys k0.. by kind, and its exact numbers n0.."""
        source, columns = self._rows()
        found: Columns = {}
        items = []
        for number in range(1 + self._r.randrange(3)):
            kind = self._pick([TEXT, TEXT, TIME, DATE, BOOL, EXACT])
            sql = self._expression(columns, kind)
            items.append(f"{sql} AS k{number}")
            found[f"k{number}"] = kind
        numbers = ["COUNT(*) AS n0"]
        exact = self._expression(columns, EXACT)
        numbers.append(
            self._pick(
                [
                    f"SUM({exact}) AS n1",
                    f"MAX({exact}) AS n1",
                    f"COUNT(DISTINCT {exact}) AS n1",
                    f"COUNT({exact}) AS n1",
                ]
            )
        )
        sql = f"SELECT {', '.join(items + numbers)} FROM {source} GROUP BY ALL"
        return sql, found, ["n0", "n1"]

    def _windows(self) -> str:
        inner, keys, numbers = self._inner()
        order = ", ".join([*keys])
        partition = f"PARTITION BY {self._pick(list(keys))} " if self._maybe(0.5) else ""
        number = self._pick(numbers)
        frame = self._pick(
            [
                "",
                " ROWS BETWEEN 2 PRECEDING AND CURRENT ROW",
                " ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
            ]
        )
        if self._maybe(0.5):
            order = f"{number}{self._pick(['', ' DESC', ' NULLS FIRST'])}"
            self.plain = False
        calls = [
            f"ROW_NUMBER() OVER ({partition}ORDER BY {order})",
            f"RANK() OVER ({partition}ORDER BY {order})",
            f"NTILE(3) OVER ({partition}ORDER BY {order})",
            f"SUM({number}) OVER ({partition}ORDER BY {order}{frame})",
            f"AVG({number}) OVER ({partition}ORDER BY {order}{frame})",
            f"COUNT(*) OVER ({partition}ORDER BY {order})",
            f"LAG({number}) OVER ({partition}ORDER BY {order})",
            f"LEAD({number}, 2, 0) OVER ({partition}ORDER BY {order})",
            f"FIRST_VALUE({number}) OVER ({partition}ORDER BY {order})",
            f"{number} - MIN({number}) OVER ({partition}ORDER BY {order}{frame})",
            f"MAX({number}) OVER ({partition})" if partition else f"MAX({number}) OVER ()",
        ]
        items = [*keys, *numbers, *(f"{self._pick(calls)} AS w{i}" for i in range(2))]
        sql = f"WITH a AS ({inner}) SELECT {', '.join(items)} FROM a"
        if self._maybe(0.3):
            sql += f" QUALIFY ROW_NUMBER() OVER ({partition}ORDER BY {order}) <= 3"
        return sql

    def _sessions(self) -> str:
        self.plain = False
        source, columns = self._rows()
        gap = self._pick(["'30 minutes'", "INTERVAL 1 DAY", "INTERVAL '2 hours'", "'20 minutes'"])
        aggregates = self._aggregates(columns, 1 + self._r.randrange(3))
        items = [f"{sql} AS a{i}" for i, sql in enumerate(aggregates)]
        time = "p.event_time" if "p.event_time" in columns else "event_time"
        keys = self._keys(columns, self._r.randrange(3))
        names = [f"{sql} AS k{i}" for i, sql in enumerate(keys)]
        session = f"SESSION_WINDOW({time}, {gap}) AS s"
        sql = f"SELECT {', '.join([*names, session, *items])} FROM {source} GROUP BY ALL"
        if self._maybe(0.5):
            return sql
        group = "".join(f"k{i}, " for i in range(len(keys)))
        return (
            f"WITH x AS ({sql}) SELECT {group}COUNT(*) AS sessions, MAX(s.end) AS e, "
            f"SUM(DATE_DIFF('minute', s.start, s.end)) AS m FROM x"
            + (f" GROUP BY {group.removesuffix(', ')}" if group else "")
        )

    def _latest(self) -> str:
        source, columns = self._rows()
        kept = self._r.sample(sorted(columns), 2)
        key = self._pick([c for c in columns if columns[c] in (TEXT, DATE, BOOL)])
        self.plain = False  # equal events are told apart by what the view keeps of them
        orders = ["event_time DESC", "event_time", "minutes DESC NULLS FIRST",
                  "ratio DESC", "n, minutes DESC"]  # fmt: skip
        order = self._pick([o for o in orders if o.split()[0].strip(",") in self._events])
        prefix = "p." if "p.event_time" in columns else ""
        order = ", ".join(f"{prefix}{part.strip()}" for part in order.split(","))
        last = self._pick(["= 1", "<= 2", "<= 3"])
        items = ", ".join(f"{column} AS c{i}" for i, column in enumerate([key, *kept]))
        sql = (
            f"SELECT {items} FROM {source} "
            f"QUALIFY ROW_NUMBER() OVER (PARTITION BY {key} ORDER BY {order}) {last}"
        )
        if self._maybe(0.4):
            return f"SELECT c0, COUNT(*) AS n, MAX(c1) AS m FROM ({sql}) GROUP BY c0"
        return sql

    def _distinct(self) -> str:
        source, columns = self._rows()
        keys = self._keys(columns, 1 + self._r.randrange(3))
        items = ", ".join(f"{sql} AS k{i}" for i, sql in enumerate(keys))
        sql = f"SELECT DISTINCT {items} FROM {source}"
        return f"SELECT COUNT(*) AS n, COUNT(k0) AS c FROM ({sql})" if self._maybe(0.4) else sql

    def _union(self) -> str:
        parts = []
        kind = self._pick([TEXT, DATE, EXACT])
        for _ in range(2):
            source, columns = self._rows()
            key = self._expression(columns, kind)
            if kind == EXACT:
                key = f"CAST({key} AS DECIMAL(18, 4))"
            parts.append(f"SELECT {key} AS k, COUNT(*) AS n FROM {source} GROUP BY 1")
        union = self._pick([" UNION ALL ", " UNION ", " EXCEPT ", " INTERSECT "]).join(parts)
        if self._maybe(0.5):
            return f"SELECT k, SUM(n) AS s FROM ({union}) GROUP BY k"
        return union

    def _joined(self) -> str:
        values = ["COUNT(*)", "SUM(n)" if "n" in self._events else "SUM(minutes)", "MAX(minutes)"]
        left, right = (
            f"SELECT user_id, {self._pick(values)} AS v "
            f"FROM playback WHERE {self._condition(self._events)} GROUP BY user_id"
            for _ in range(2)
        )
        how = self._pick(["JOIN", "LEFT JOIN", "FULL JOIN", "SEMI JOIN", "ANTI JOIN"])
        right_columns = "" if how in ("SEMI JOIN", "ANTI JOIN") else ", b.v AS bv"
        users = self._pick(["", " LEFT JOIN users AS u ON a.user_id = u.user_id"])
        country = ", u.country" if users else ""
        return (
            f"WITH a AS ({left}), b AS ({right}) "
            f"SELECT a.user_id, a.v AS av{right_columns}{country} "
            f"FROM a {how} b ON a.user_id = b.user_id{users}"
        )

    def _shares(self) -> str:
        inner, keys, _ = self._inner()
        key = next(iter(keys))
        total = self._pick(["(SELECT SUM(n0) FROM a)", "SUM(n0) OVER ()"])
        return (
            f"WITH a AS ({inner}) SELECT {', '.join(keys)}, n0 / NULLIF({total}, 0) AS part FROM a "
            f"WHERE {key} IS NOT NULL OR n0 IN (SELECT MAX(n0) FROM a)"
        )

    # -- rows below the aggregate --------------------------------------------------------

    def _rows(self) -> tuple[str, Columns]:
        """FROM, JOINs and WHERE, and the columns (as they are to be written) by kind."""
        match self._r.randrange(4):
            case 0:
                source, columns = "playback", dict(self._events)
            case 1:
                source, columns = self._lookups()
            case 2:
                inner, inside = self._lookups()
                kept = self._r.sample(sorted(inside), 5)
                needed = ["p.event_time", "p.minutes", "p.ratio", "p.n"]
                needed = [c for c in needed if c in inside]
                items = ", ".join(f"{c} AS {c.replace('.', '_')}" for c in kept if c not in needed)
                items += "".join(f", {c}" for c in needed)
                source = f"(SELECT {items.removeprefix(', ')} FROM {inner}) AS q"
                columns = {c.replace(".", "_"): inside[c] for c in kept if c not in needed}
                columns |= {c.removeprefix("p."): inside[c] for c in needed}
                if "n" in self._events:
                    columns.setdefault("n", EXACT)
                columns |= self._text_of(columns)
            case _:
                derived = self._expression(self._events, EXACT)
                text = self._expression(self._events, TEXT)
                source = f"(SELECT *, {derived} AS extra, {text} AS label FROM playback) AS q"
                columns = self._events | {"extra": EXACT, "label": TEXT}
        if self._maybe(0.4):
            source += f" WHERE {self._condition(columns)}"
        return source, columns

    def _text_of(self, columns: Columns) -> Columns:
        """A source of text where the sample of columns holds none."""
        number = "n" if "n" in self._events else "minutes"
        return {} if TEXT in columns.values() else {f"CAST({number} AS VARCHAR)": TEXT}

    def _lookups(self) -> tuple[str, Columns]:
        source = "playback AS p"
        columns = {f"p.{name}": kind for name, kind in self._events.items()}
        how = self._pick(["JOIN", "LEFT JOIN"])
        if self._maybe(0.6):
            source += f" {how} users AS u ON p.user_id = u.user_id"
            columns |= {f"u.{name}": kind for name, kind in USER_COLUMNS.items()}
            columns["u.user_id"] = TEXT
        if self._maybe(0.4):
            source += " LEFT JOIN users AS f ON f.user_id = p.friend_id"
            columns |= {f"f.{name}": kind for name, kind in USER_COLUMNS.items()}
        if self._maybe(0.4):
            also = " AND (m.genre_primary <> 'War' OR p.flag)" if how == "JOIN" else ""
            source += f" {how} movies AS m ON p.movie_id = m.movie_id{also}"
            columns |= {f"m.{name}": kind for name, kind in MOVIE_COLUMNS.items()}
        return source, columns

    # -- expressions ---------------------------------------------------------------------

    def _keys(self, columns: Columns, count: int) -> list[str]:
        kinds = [TEXT, TEXT, TIME, DATE, BOOL, EXACT, FLOAT, WIDE]
        return [self._expression(columns, self._pick(kinds)) for _ in range(count)]

    def _aggregates(self, columns: Columns, count: int, *, above: bool = False) -> list[str]:
        return [self._aggregate(columns, above=above) for _ in range(count)]

    def _aggregate(self, columns: Columns, *, above: bool) -> str:
        exact = self._expression(columns, EXACT)
        any_kind = self._expression(
            columns, self._pick([TEXT, TIME, DATE, EXACT, FLOAT, BOOL, WIDE])
        )
        condition = self._condition(columns)
        choices: list[Callable[[], str]] = [
            lambda: "COUNT(*)",
            lambda: f"COUNT({any_kind})",
            lambda: f"COUNT(DISTINCT {any_kind})",
            lambda: f"SUM({exact})",
            lambda: f"AVG({exact})",
            lambda: f"MIN({any_kind})",
            lambda: f"MAX({any_kind})",
            lambda: f"BOOL_OR({condition})",
            lambda: f"BOOL_AND({condition})",
            lambda: self._count_if(condition),
            lambda: f"{self._pick(['VAR_SAMP', 'VAR_POP', 'STDDEV', 'STDDEV_POP'])}({exact})",
            lambda: self._arg_best(columns, any_kind),
        ]
        sql = self._pick(choices)()
        if self._maybe(0.3):
            sql = f"{sql} FILTER (WHERE {self._condition(columns)})"
        match self._r.randrange(6):
            case 5:
                return f"{sql} IS NULL"
            case 4:
                return f"SUM({exact}) / NULLIF(COUNT(*), 0)"
            case 3:
                return f"COALESCE(ROUND(AVG({exact}), 2), -1)"
            case _:
                return sql

    def _count_if(self, condition: str) -> str:
        self.plain = False  # DuckDB's is NULL, not 0, over nothing
        return f"COUNT_IF({condition})"

    def _arg_best(self, columns: Columns, value: str) -> str:
        self.plain = False  # DuckDB lets any of the tied rows win
        order = self._pick(list(columns))
        return f"{self._pick(['ARG_MAX', 'ARG_MIN'])}({value}, {order})"

    def _expression(self, columns: Columns, kind: str) -> str:
        fit = [column for column in columns if columns[column] == kind]
        column = self._pick(fit) if fit else None
        if column is None:
            return self._literal(kind)
        if self._maybe(0.5):
            return column
        condition = self._condition(columns)
        return self._pick({
            EXACT: [f"-{column}", f"({column} + 1)", f"{column} * 2", f"ABS({column})",
                    f"CASE WHEN {condition} THEN {column} END", f"COALESCE({column}, 0)",
                    f"GREATEST({column}, 1)", f"CAST({column} AS INTEGER)", f"ROUND({column})"],
            TEXT: [f"UPPER({column})", f"COALESCE({column}, '?')", f"SUBSTRING({column}, 1, 1)",
                   f"({column} || '-x')", f"CASE WHEN {condition} THEN {column} ELSE 'other' END",
                   f"LEFT({column}, 2)", f"CONCAT({column}, '!')", f"NULLIF({column}, '')"],
            TIME: [f"DATE_TRUNC('day', {column})", f"DATE_TRUNC('month', {column})",
                   f"TIME_BUCKET(INTERVAL '5 hours', {column})",
                   f"({column} + INTERVAL 1 HOUR)", f"TIME_BUCKET(INTERVAL '7 days', {column})"],
            DATE: [f"({column} + 1)", f"CAST(DATE_TRUNC('month', {column}) AS DATE)",
                   f"CASE WHEN {condition} THEN {column} END"],
            BOOL: [f"NOT {column}", f"({condition})", f"COALESCE({column}, FALSE)"],
            FLOAT: [f"({column} * 2)", f"CASE WHEN {condition} THEN {column} END"],
            WIDE: [f"COALESCE({column}, 7)", f"CASE WHEN {condition} THEN {column} END"],
        }[kind])  # fmt: skip

    def _literal(self, kind: str) -> str:
        return {EXACT: "1", TEXT: "'x'", TIME: "TIMESTAMP '2024-01-01'", DATE: "DATE '2024-01-01'",
                BOOL: "TRUE", FLOAT: "CAST(1 AS DOUBLE)", WIDE: "1"}[kind]  # fmt: skip

    def _condition(self, columns: Columns) -> str:
        column = self._pick(sorted(columns))
        simple = {
            EXACT: [f"{column} > 3", f"{column} BETWEEN 0 AND 5", f"{column} IN (1, 2, 3)",
                    f"{column} <> 2", f"{column} IS DISTINCT FROM 1"],
            TEXT: [f"{column} LIKE '%1'", f"{column} IN ('u1', 'm1', 'USA', 'started')",
                   f"{column} < 'm'", f"LENGTH({column}) > 3",
                   f"{column} LIKE 'a\\_%' ESCAPE '\\'"],
            TIME: [f"{column} >= TIMESTAMP '2024-01-01'", f"HOUR({column}) < 12",
                   f"DAYOFWEEK({column}) IN (0, 6)"],
            DATE: [f"{column} < DATE '2024-01-05'", f"MONTH({column}) = 1",
                   f"DATE_DIFF('month', {column}, DATE '2024-02-01') = 1"],
            BOOL: [f"{column}", f"NOT {column}", f"{column} IS TRUE"],
            FLOAT: [f"{column} > 0", f"{column} <= 0.5", f"{column} = 0"],
            WIDE: [f"{column} > 100", f"{column} = 0"],
        }[columns[column]]  # fmt: skip
        condition = self._pick([*simple, f"{column} IS NULL", f"{column} IS NOT NULL"])
        match self._r.randrange(8):
            case 7:
                return f"{condition} OR {self._condition(columns)}"
            case 6:
                return f"{condition} AND {self._condition(columns)}"
            case 5:
                return f"NOT ({condition})"
            case _:
                return condition

    def _ordered(self, keys: Sequence[str], aggregates: int, letter: str = "a") -> str:
        names = [*keys, *(f"{letter}{i}" for i in range(aggregates))]
        if self._maybe(0.7):
            return ""
        name = self._pick(names)
        order = self._pick([f"{name} DESC", f"{name}", f"{name} NULLS FIRST", "ALL"])
        if self._maybe(0.5):
            self.plain = False  # ties at the limit
            return f" ORDER BY {order} LIMIT {self._r.randrange(1, 6)}"
        return f" ORDER BY {order}"

    def _pick(self, choices: Sequence[T]) -> T:
        return choices[self._r.randrange(len(choices))]

    def _maybe(self, chance: float) -> bool:
        return self._r.randrange(100) >= 100 * (1 - chance)  # the smallest draw says no
