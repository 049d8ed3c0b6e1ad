"""A view: a name, its text, what its comment says, and the plans derived from the text."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import Literal, get_args

import pyarrow as pa
from sqlglot import exp

from playhead.errors import EngineError, ViewError, ViewSyntaxError
from playhead.views.compiler import Plans, compile_plans, parse, tables_read
from playhead.views.dialects import transpile
from playhead.views.header import Header, read_header
from playhead.views.leaf import Leaf, Window
from playhead.views.relations import Relation, dimension_relations, known_relations

Plan = Literal["full", "partial", "merge", "final"]

COMPILER_VERSION = 1
"""Raised whenever the shape of states changes, so that every state is made anew."""


@dataclass(frozen=True)
class View:
    """One metric: a SELECT over events, defined once.

    Attributes:
        name: lower-case identifier; the relation's name in queries.
        text: the SQL as written, with its leading comment.
        header: description, owner, watermark and the columns' meanings, from that comment.
        relations: what the text may read.
    """

    name: str
    text: str
    header: Header = field(hash=False)
    relations: Mapping[str, Relation] = field(repr=False, hash=False)

    @classmethod
    def parse(
        cls,
        name: str,
        sql: str,
        *,
        schema: pa.Schema | Mapping[str, pa.Schema] | None = None,
    ) -> "View":
        """Check a view's text and derive its plans.

        Args:
            name: the view's name.
            sql: one SELECT, in DuckDB's dialect, with an optional leading comment.
            schema: columns of the topic that the text reads, where it is none of Playhead's;
                or a mapping of relation name to schema (a relation that the text joins is a
                dimension, one in FROM a topic). Without it, plans of a view over an unknown
                topic are derived when `bind` gives the schema.

        Raises:
            ViewSyntaxError: no SQL, unknown relation or column.
            NotMergeableError: a construct that cannot be merged exactly, with what to write
                instead.
        """
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ViewError(f"{name!r} is no view name", hint="Use a-z, 0-9 and _, as in my_view.")
        view = cls(name, sql, read_header(sql), known_relations())
        with _named(name):
            tree = view._tree
            if schema is not None:
                view = view.bind(_schemas(tree, schema))
            if view.is_bound:
                _ = view.plans
        return view

    def bind(
        self,
        topics: Mapping[str, pa.Schema],
        dimensions: Mapping[str, pa.Schema] | None = None,
    ) -> "View":
        """The same view over relations of these schemas."""
        kinds = {name: relation.kind for name, relation in self.relations.items()}
        declared = {name for name, kind in kinds.items() if kind == "dimension"}
        joined = {name for name in self.joined_only if kinds.get(name) != "topic"}
        if set(self.reads) <= declared | joined:
            joined = set()  # what dimensions are joined with is the topic
        dimension_names = set(dimensions or {}) | (set(topics) & (joined | declared))
        found = dict(self.relations)
        for name, schema in topics.items():
            if name not in dimension_names:
                found[name] = Relation(name, "topic", schema)
        given = {n: s for n, s in topics.items() if n in dimension_names} | dict(dimensions or {})
        found |= dimension_relations(given)
        return self if found == self.relations else replace(self, relations=found)

    @cached_property
    def _tree(self) -> exp.Query:
        return parse(self.text)

    @property
    def is_bound(self) -> bool:
        """Whether every relation that the text reads has a schema."""
        return all(name in self.relations for name in self.reads)

    @property
    def reads(self) -> tuple[str, ...]:
        """Topics and dimensions that the text names."""
        return tuple(tables_read(self._tree))

    @property
    def joined_only(self) -> set[str]:
        """Relations that the text only ever joins: dimensions, where nothing else says so."""
        return _joined_only(self._tree)

    @cached_property
    def plans(self) -> Plans:
        """The plans, derived once."""
        with _named(self.name):
            return compile_plans(self._tree, self.relations)

    def sql(self, plan: Plan, dialect: str = "duckdb") -> str:
        """One of the view's plans as text; of several states, each after a comment with its name.

        Args:
            plan: "full", "partial", "merge" or "final".
            dialect: "duckdb", "spark" or "bigquery".

        Raises:
            EngineError: no such plan or dialect.
        """
        if plan in ("full", "final"):
            return transpile(getattr(self.plans, plan), dialect)
        if plan not in ("partial", "merge"):
            raise EngineError(f"no plan {plan!r}", hint=f"There are {', '.join(get_args(Plan))}.")
        texts = [transpile(getattr(leaf, plan)(), dialect) for leaf in self.leaves]
        if len(texts) == 1:
            return texts[0]
        named = zip(self.leaves, texts, strict=True)
        return "\n\n".join(f"-- {leaf.name}\n{text}" for leaf, text in named)

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The states of the view: one, unless it aggregates several times over events."""
        return self.plans.leaves

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics whose events the view counts."""
        return tuple(dict.fromkeys(leaf.topic for leaf in self.leaves))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the answer's columns."""
        return tuple(name for name, _ in self.plans.columns)

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns of the answer that tell its rows apart, such as the window and the country."""
        grouped = {name for leaf in self.leaves for name, _ in leaf.keys}
        return tuple(name for name in self.columns if name in grouped)

    @property
    def watermark(self) -> timedelta:
        """How long after its end a window is held open for late events."""
        return self.header.watermark

    @property
    def window(self) -> Window | None:
        """The window of event time by which the view groups, if a column carries it unchanged."""
        return self.plans.window

    @property
    def windows_apart(self) -> bool:
        """Whether the rows of one window depend on no other window."""
        return self.plans.windows_apart

    @cached_property
    def hash(self) -> str:
        """Names the view's canonical text: another hash needs other states."""
        parts = [str(COMPILER_VERSION), self.plans.full]
        parts += [f"{leaf.partial()} {sorted(leaf.types.items())}" for leaf in self.leaves]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


class _named:  # noqa: N801 - reads as a word in `with`
    """Names the view in errors raised inside the block."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: object, _trace: object) -> None:
        if isinstance(error, ViewError) and not error.message.startswith("view "):
            error.message = f"view {self._name}: {error.message}"
            error.args = (error.message,)


def _joined_only(tree: exp.Query) -> set[str]:
    """Relations that the text only ever joins: dimensions, where nothing else says so."""
    first = {f.this.name.lower() for f in tree.find_all(exp.From) if isinstance(f.this, exp.Table)}
    joined = {j.this.name.lower() for j in tree.find_all(exp.Join) if isinstance(j.this, exp.Table)}
    return joined - first


def _schemas(
    tree: exp.Query, schema: pa.Schema | Mapping[str, pa.Schema]
) -> Mapping[str, pa.Schema]:
    if not isinstance(schema, pa.Schema):
        return schema
    known = known_relations()
    read = tables_read(tree)
    unknown = [name for name in read if name not in known and name not in _joined_only(tree)]
    topics = unknown or [name for name in read if name in known and known[name].kind == "topic"]
    if len(topics) != 1:
        raise ViewSyntaxError(
            f"one schema is given, but the text reads {', '.join(topics) or 'no topic'}",
            hint="Give a mapping of relation name to schema.",
        )
    return {topics[0]: schema}
