"""Search and recommendation logs: what users looked for, and what they were shown."""

from typing import Any, Final

import numpy as np
import pyarrow as pa

from playhead.testing.generate import words
from playhead.testing.generate.columns import (
    MINUTES,
    SCORE,
    categories,
    dates,
    decimals,
    flags,
    identifiers,
    integers,
)
from playhead.testing.generate.draws import Flags, Integers, Shape, chance, stream
from playhead.testing.generate.facts import World
from playhead.testing.generate.spec import Block

_SEARCH_TENTHS: Final = Shape(
    (
        (0, 2), (0.01, 15), (0.05, 36), (0.25, 96), (0.5, 168), (0.75, 269), (0.95, 477),
        (0.99, 671), (1, 1268),
    )
)  # fmt: skip
_EMPTY_RATE: Final = np.array([0.0055, 0.04])
_CLICK_RATE: Final = np.array([0.505, 0.41])
_RESULTS: Final = 100
_CLICKABLE: Final = 10

_SHOWN: Final = 20
_SHOWN_CLICK_RATE: Final = 0.15
_BY_TYPE: Final = np.array([1.2, 1.0, 0.8, 1.05, 0.95])
_BY_ALGORITHM: Final = np.array([0.85, 0.95, 1.0, 1.15])


def draw_searches(world: World, block: Block) -> pa.Table:
    """One block of search_logs, without its duplicates; typing errors find less."""
    spec = world.spec
    rng = stream(spec.seed, "search_logs", block.number)
    rows = block.rows
    user = world.activity.draw(rng, rows)
    typo = chance(rng, rows, 0.15)
    results = _results(rng, typo)
    position, unclicked = _clicked(rng, typo, results, spec.dirt)
    columns: dict[str, Any] = {
        "search_id": identifiers(
            "search_", np.arange(block.first, block.first + rows), spec.rows("search_logs"), 6
        ),
        "user_id": world.user_ids(user),
        "search_query": categories(words.QUERIES.values, words.QUERIES.draw(rng, rows)),
        "search_date": dates(spec.start, world.days(rng, user, None)),
        "results_returned": integers(results),
        "clicked_result_position": integers(position, unclicked),
        "device_type": categories(words.LOG_DEVICES.values, words.LOG_DEVICES.draw(rng, rows)),
        "search_duration_seconds": decimals(
            _SEARCH_TENTHS.draw(rng, rows).astype(np.int64) * 10,
            MINUTES,
            chance(rng, rows, 0.048 * spec.dirt),
        ),
        "had_typo": flags(typo),
        "used_filters": flags(chance(rng, rows, 0.255)),
        "location_country": world.countries(rng, user),
    }
    return pa.table(columns)


def _results(rng: np.random.Generator, typo: Flags) -> Integers:
    found = rng.integers(1, _RESULTS + 1, len(typo))
    empty = rng.random(len(typo)) < _EMPTY_RATE[typo.astype(np.int8)]
    return np.where(empty, 0, found)


def _clicked(
    rng: np.random.Generator, typo: Flags, results: Integers, dirt: float
) -> tuple[Integers, Flags]:
    """Clicked positions, and where nothing was clicked; only dirt clicks past the results."""
    position = rng.integers(1, _CLICKABLE + 1, len(typo))
    clicked = rng.random(len(typo)) < _CLICK_RATE[typo.astype(np.int8)]
    careless = chance(rng, len(typo), dirt)
    possible = careless | (results > 0)
    return np.where(careless, position, np.minimum(position, results)), ~(clicked & possible)


def draw_recommendations(world: World, block: Block) -> pa.Table:
    """One block of recommendation_logs, without its duplicates."""
    spec = world.spec
    rng = stream(spec.seed, "recommendation_logs", block.number)
    rows, dirt = block.rows, spec.dirt
    user, movie = world.activity.draw(rng, rows), world.popularity.draw(rng, rows)
    kind = words.RECOMMENDATIONS.draw(rng, rows)
    algorithm = words.ALGORITHMS.draw(rng, rows)
    position = rng.integers(1, _SHOWN + 1, rows)
    score = rng.integers(100, 1_001, rows)
    by_position = 1.45 - 0.9 * (position - 1) / (_SHOWN - 1)
    rate = _SHOWN_CLICK_RATE * by_position * _BY_TYPE[kind] * _BY_ALGORITHM[algorithm]
    columns: dict[str, Any] = {
        "recommendation_id": identifiers(
            "rec_",
            np.arange(block.first, block.first + rows),
            spec.rows("recommendation_logs"),
            6,
        ),
        "user_id": world.user_ids(user),
        "movie_id": world.movie_ids(movie),
        "recommendation_date": dates(spec.start, world.days(rng, user, movie)),
        "recommendation_type": categories(words.RECOMMENDATIONS.values, kind),
        "recommendation_score": decimals(score * 10, SCORE, chance(rng, rows, 0.1 * dirt)),
        "was_clicked": flags(rng.random(rows) < rate),
        "position_in_list": integers(position),
        "device_type": categories(words.LOG_DEVICES.values, words.LOG_DEVICES.draw(rng, rows)),
        "time_of_day": categories(words.TIMES_OF_DAY.values, words.TIMES_OF_DAY.draw(rng, rows)),
        "algorithm_version": categories(
            words.ALGORITHMS.values, algorithm, chance(rng, rows, 0.05 * dirt)
        ),
    }
    return pa.table(columns)
