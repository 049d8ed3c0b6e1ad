"""Write a whole data set: draw blocks ahead on other cores, write them in order."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa

from playhead.errors import SettingError
from playhead.testing.generate.clicks import draw_recommendations, draw_searches
from playhead.testing.generate.columns import positions
from playhead.testing.generate.draws import stream
from playhead.testing.generate.facts import World, draw_reviews, draw_sessions
from playhead.testing.generate.files import FORMATS, NAMES
from playhead.testing.generate.people import Population, draw_population, draw_users
from playhead.testing.generate.spec import Block, GenerateSpec
from playhead.testing.generate.titles import Catalogue, draw_catalogue, draw_movies

logger = logging.getLogger(__name__)

Progress = Callable[[str, int], None]
Format = Literal["parquet", "csv"]

_MAX_AHEAD: Final = 3


def generate(
    out: Path,
    spec: GenerateSpec | None = None,
    *,
    format: Format = "parquet",  # noqa: A002
    progress: Progress | None = None,
) -> dict[str, int]:
    """Write the six files of a data set into a folder, in bounded memory.

    The same spec gives the same bytes, whatever the number of cores. A file takes its name
    only when it is whole, and replaces one of an earlier run.

    Args:
        out: the folder; made if it is not there.
        spec: size, period, seed and dirt; the default is the real set's size.
        format: "parquet" or "csv".
        progress: called with a file's name and the rows just added to it.

    Returns:
        Rows written, duplicates included, by file name without its suffix.

    Raises:
        SettingError: unknown format, `out` is no folder or cannot be written, or it holds
            a data set in another format.
    """
    chosen = spec or GenerateSpec()
    _check(out, format)
    world = World(chosen, _population(chosen), _catalogue(chosen))
    written: dict[str, int] = {}
    for name in NAMES:
        written[name] = _write(out, name, world, format, progress)
        logger.info("generated %s: %d rows", name, written[name])
    return written


def _check(out: Path, format: str) -> None:  # noqa: A002
    if format not in FORMATS:
        raise SettingError(
            f"generate: format = {format} is not known", hint=f"Give one of {', '.join(FORMATS)}."
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(
            f"generate: {out} cannot be made a folder: {error.strerror}",
            hint="Give a folder that can be written, or a new name.",
        ) from error
    others = [f"{name}.{suffix}" for suffix in FORMATS if suffix != format for name in NAMES]
    found = [name for name in others if (out / name).exists()]
    if found:
        raise SettingError(
            f"generate: {out} already holds {found[0]}, so a loader could not tell which to take",
            hint="Give another folder, or remove those files first.",
        )


def _population(spec: GenerateSpec) -> Population:
    return Population.joined_from([draw_population(spec, block) for block in spec.blocks("users")])


def _catalogue(spec: GenerateSpec) -> Catalogue:
    return Catalogue.joined_from([draw_catalogue(spec, block) for block in spec.blocks("movies")])


def _write(out: Path, name: str, world: World, format: str, progress: Progress | None) -> int:  # noqa: A002
    rows = 0
    kind = FORMATS[format]
    path = out / f"{name}.{kind.suffix}"
    try:
        with kind(path) as file:
            for table in _ahead(name, world):
                file.write(table)
                rows += table.num_rows
                if progress is not None:
                    progress(name, table.num_rows)
    except OSError as error:
        raise SettingError(
            f"generate: {path} cannot be written: {error.strerror or error}",
            hint="Free some space, or give a folder that can be written.",
        ) from error
    return rows


def _ahead(name: str, world: World) -> Iterator[pa.Table]:
    """The file's blocks in order, a few drawn ahead of the writer."""
    workers = max(1, min(_MAX_AHEAD, os.cpu_count() or 1))
    waiting: deque[Future[pa.Table]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="generate") as pool:
        for block in world.spec.blocks(name):
            waiting.append(pool.submit(_draw, name, world, block))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _draw(name: str, world: World, block: Block) -> pa.Table:
    """A block's rows, then its full-row duplicates in random order, as in the real files."""
    table = _DRAW[name](world, block)
    rng = stream(world.spec.seed, f"repeats of {name}", block.number)
    again = rng.permutation(block.rows)[: block.repeats]
    return pa.concat_tables([table, table.take(positions(again))])


_DRAW: Final[dict[str, Callable[[World, Block], pa.Table]]] = {
    "users": lambda world, block: draw_users(world.spec, world.people, block),
    "movies": lambda world, block: draw_movies(world.spec, world.catalogue, block),
    "watch_history": draw_sessions,
    "reviews": draw_reviews,
    "search_logs": draw_searches,
    "recommendation_logs": draw_recommendations,
}
