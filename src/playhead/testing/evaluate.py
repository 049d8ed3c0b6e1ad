"""`evaluate`: a view's answer by plain recomputation, and by merging partial states."""

import random
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import pyarrow as pa

from playhead.engines import DuckDBEngine, Engine
from playhead.errors import EngineError, ViewError
from playhead.speed.enrich import Enricher
from playhead.views import View
from playhead.views.leaf import Leaf

Batch: TypeAlias = "pa.Table | Mapping[str, pa.Table]"


def evaluate(
    view: View,
    batches: Sequence[Batch],
    dimensions: Mapping[str, pa.Table] | None = None,
    engine: str = "duckdb",
    *,
    seed: int = 0,
) -> tuple[pa.Table, pa.Table]:
    """Compute a view twice: over all events at once, and from merged partial states.

    Args:
        view: what `View.parse` gave; it is bound to the batches' own schema.
        batches: parts of the topic's events, in any order, some of them empty; for a view over
            several topics each part is a mapping of topic to table.
        dimensions: dimension tables by name, one row a key.
        engine: "duckdb".
        seed: of the random tree in which the partial states are merged.

    Returns:
        (full, merged): Arrow tables of the view's columns. Rows of both come in the view's own
        ORDER BY (ties broken by all columns), or sorted by all columns where it has none.

    Raises:
        ViewError: the view reads a relation or a column that is not given.
        EngineError: no such engine.
    """
    runner = _engine(engine)
    dimensions = dict(dimensions or {})
    events = _by_topic(view, batches)
    whole = {topic: _concat(parts) for topic, parts in events.items()}
    bound = _bind(view, whole, dimensions)
    full = runner.full(bound, {**dimensions, **whole})
    picks = random.Random(seed)  # noqa: S311 - a repeatable tree, no secret
    states = {}
    for leaf in bound.leaves:
        parts = [_conform(part, whole[leaf.topic].schema) for part in events[leaf.topic]]
        states[leaf.name] = _merged(runner, leaf, parts, dimensions, picks)
    merged = runner.final(bound, states, dimensions)
    sorter = runner if isinstance(runner, DuckDBEngine) else DuckDBEngine()
    return _ordered(bound, full, sorter), _ordered(bound, merged, sorter)


def _engine(name: str) -> Engine:
    if name != "duckdb":
        raise EngineError(f"no engine {name!r}", hint="There is duckdb.")
    return DuckDBEngine()


def _by_topic(view: View, batches: Sequence[Batch]) -> dict[str, list[pa.Table]]:
    """Each topic's parts; a bare table belongs to the view's only topic."""
    names = [n for n in view.reads if n not in view.relations or view.relations[n].kind == "topic"]
    found: dict[str, list[pa.Table]] = {}
    for batch in batches:
        if not isinstance(batch, Mapping):
            batch = {_only(view, names): batch}
        for topic, table in batch.items():
            found.setdefault(topic, []).append(table)
    for name in names:
        if name not in found and name in view.relations:
            found[name] = [view.relations[name].schema.empty_table()]
    return found


def _only(view: View, names: Sequence[str]) -> str:
    topics = [name for name in names if name not in view.joined_only] or list(names)
    if len(topics) != 1:
        raise ViewError(
            f"view {view.name}: a batch is one table, but the view reads {', '.join(topics)}",
            hint="Give each batch as a mapping of topic to table.",
        )
    return topics[0]


def _concat(parts: Sequence[pa.Table]) -> pa.Table:
    whole = [part for part in parts if part.num_columns]
    if not whole:
        raise ViewError("every batch is without columns, so the view has nothing to bind to")
    return pa.concat_tables(whole, promote_options="permissive").unify_dictionaries()


def _conform(part: pa.Table, schema: pa.Schema) -> pa.Table:
    """The part with exactly the whole topic's columns."""
    if part.num_columns == 0:
        return schema.empty_table()
    return pa.concat_tables([schema.empty_table(), part], promote_options="permissive").cast(schema)


def _bind(view: View, whole: Mapping[str, pa.Table], dimensions: Mapping[str, pa.Table]) -> View:
    bound = view.bind(
        {topic: table.schema for topic, table in whole.items()},
        {name: table.schema for name, table in dimensions.items()},
    )
    missing = [name for name in bound.plans.dimensions if name not in dimensions]
    if missing:
        raise ViewError(
            f"view {view.name}: it joins {missing[0]}, which is not given",
            hint=f"evaluate(..., dimensions={{'{missing[0]}': table}}).",
        )
    return bound


def _merged(
    runner: Engine,
    leaf: Leaf,
    parts: Sequence[pa.Table],
    dimensions: Mapping[str, pa.Table],
    picks: random.Random,
) -> pa.Table:
    """The leaf's states of all parts, merged a few at a time in a random tree."""
    enricher = Enricher.of([leaf], dimensions)
    states = [runner.partial(leaf, enricher.widen(part)) for part in parts]
    while len(states) > 1:
        picks.shuffle(states)
        take = picks.randint(2, min(4, len(states)))
        states = [*states[take:], runner.merge(leaf, states[:take])]
    return runner.merge(leaf, states)


def _ordered(view: View, table: pa.Table, sorter: DuckDBEngine) -> pa.Table:
    """Rows in an order that does not depend on how they were computed."""
    return table if view.plans.ordered else sorter.sort(table)
