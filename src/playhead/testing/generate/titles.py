"""The movies file, and what the facts need to know of each title."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playhead.testing.generate import words
from playhead.testing.generate.columns import (
    MINUTES,
    MONEY,
    STARS,
    categories,
    dates,
    decimals,
    flags,
    identifiers,
    integers,
)
from playhead.testing.generate.draws import (
    Codes,
    Flags,
    Floats,
    Integers,
    Shape,
    chance,
    span,
    stream,
)
from playhead.testing.generate.spec import Block, GenerateSpec

MOVIE_DIGITS: Final = 4

# The real set's titles come from 1,247 days before its 731-day period to 577 days into it.
_ADDITIONS: Final = (-1247, 577, 731)

_MINUTES_SPREAD: Final = Shape(
    ((0, 0.35), (0.05, 0.62), (0.25, 0.86), (0.5, 1), (0.75, 1.14), (0.95, 1.42), (1, 1.75))
)
_USUAL_MINUTES: Final = np.array([110, 44.5, 87, 59, 52])
_AGE_YEARS: Final = Shape(
    ((0, 0), (0.05, 1), (0.25, 7), (0.5, 17), (0.75, 25), (0.95, 32), (1, 70))
)
_IMDB: Final = Shape(
    ((0, 5), (0.01, 8), (0.05, 30), (0.25, 53), (0.5, 64), (0.75, 74), (0.95, 90), (1, 100))
)
_BUDGET: Final = Shape(
    (
        (0, 68e3), (0.05, 370e3), (0.25, 1.45e6), (0.5, 3.8e6), (0.75, 9.4e6), (0.95, 44e6),
        (0.99, 142e6), (1, 198e6),
    )
)  # fmt: skip
_BOX_OFFICE: Final = Shape(
    (
        (0, 29e3), (0.05, 310e3), (0.25, 3.3e6), (0.5, 11.3e6), (0.75, 45.6e6), (0.95, 289e6),
        (0.99, 826e6), (1, 2.03e9),
    )
)  # fmt: skip
_FILM, _SERIES, _LIMITED = 0, 1, 4


@dataclass(frozen=True)
class Catalogue:
    """What facts need of titles, by title index; 10 bytes a title.

    Attributes:
        genre: position in GENRES, shape (movies,), int8.
        kind: position in CONTENT_TYPES, shape (movies,), int8.
        minutes: length, shape (movies,), int32.
        added: day it came to the platform, counted from the period's start,
            shape (movies,), int32.
    """

    genre: npt.NDArray[np.int8]
    kind: npt.NDArray[np.int8]
    minutes: npt.NDArray[np.int32]
    added: npt.NDArray[np.int32]

    @staticmethod
    def joined_from(parts: "list[Catalogue]") -> "Catalogue":
        """One catalogue from those of consecutive blocks."""
        return Catalogue(
            np.concatenate([part.genre for part in parts]),
            np.concatenate([part.kind for part in parts]),
            np.concatenate([part.minutes for part in parts]),
            np.concatenate([part.added for part in parts]),
        )


def draw_catalogue(spec: GenerateSpec, block: Block) -> Catalogue:
    """The facts' view of one block of titles."""
    rng = stream(spec.seed, "catalogue", block.number)
    kind = words.CONTENT_TYPES.draw(rng, block.rows)
    genre = words.GENRES.draw(rng, block.rows)
    low, high = span(spec.days, _ADDITIONS)
    added = rng.integers(low, high + 1, block.rows)
    return Catalogue(
        genre.astype(np.int8),
        kind.astype(np.int8),
        _minutes(rng, kind, spec.dirt).astype(np.int32),
        added.astype(np.int32),
    )


def _minutes(rng: np.random.Generator, kind: Codes, dirt: float) -> Integers:
    usual: Floats = _USUAL_MINUTES[kind] * _MINUTES_SPREAD.draw(rng, len(kind))
    odd = rng.random(len(kind))
    endless = rng.integers(320, 600, len(kind))
    minutes = np.where(odd < 0.025 * dirt, endless, usual.astype(np.int64))
    return np.where(odd > 1 - 0.002 * dirt, 0, minutes)


def draw_movies(spec: GenerateSpec, catalogue: Catalogue, block: Block) -> pa.Table:
    """One block of the movies file, without its duplicates."""
    rng = stream(spec.seed, "movies", block.number)
    rows, dirt = block.rows, spec.dirt
    own = slice(block.first, block.first + rows)
    kind = catalogue.kind[own].astype(np.int16)
    columns: dict[str, Any] = {
        "movie_id": identifiers(
            "movie_", np.arange(own.start, own.stop), spec.movies, MOVIE_DIGITS
        ),
        "title": categories(words.TITLES.values, words.TITLES.draw(rng, rows)),
        "content_type": categories(words.CONTENT_TYPES.values, kind),
        "genre_primary": categories(words.GENRES.values, catalogue.genre[own].astype(np.int16)),
        "genre_secondary": categories(
            words.GENRES.values, words.GENRES.draw(rng, rows), chance(rng, rows, 0.64)
        ),
        "release_year": integers(_release_years(rng, spec, catalogue.added[own])),
        "duration_minutes": decimals(catalogue.minutes[own].astype(np.int64) * 100, MINUTES),
        "rating": categories(words.CERTIFICATES.values, words.CERTIFICATES.draw(rng, rows)),
        "language": categories(words.LANGUAGES.values, words.LANGUAGES.draw(rng, rows)),
        "country_of_origin": categories(words.ORIGINS.values, words.ORIGINS.draw(rng, rows)),
        "imdb_rating": decimals(
            _IMDB.draw(rng, rows).astype(np.int64) * 10, STARS, chance(rng, rows, 0.145 * dirt)
        ),
        **_finances(rng, kind, dirt),
        **_episodes(rng, kind, dirt),
        "is_netflix_original": flags(chance(rng, rows, 0.3)),
        "added_to_platform": dates(spec.start, catalogue.added[own]),
        "content_warning": flags(chance(rng, rows, 0.2)),
    }
    return pa.table(columns)


def _release_years(
    rng: np.random.Generator, spec: GenerateSpec, added: npt.NDArray[np.int32]
) -> Integers:
    low, high = span(spec.days, _ADDITIONS)
    years = np.array([(spec.start + timedelta(days=day)).year for day in range(low, high + 1)])
    newest = years[added - low]
    return np.asarray(newest - _AGE_YEARS.draw(rng, len(added)).astype(np.int64), np.int64)


def _finances(rng: np.random.Generator, kind: Codes, dirt: float) -> dict[str, Any]:
    budget = _BUDGET.draw(rng, len(kind)).astype(np.int64) * 100
    revenue = _BOX_OFFICE.draw(rng, len(kind)).astype(np.int64) * 100
    other: Flags = kind != _FILM
    return {
        "production_budget": decimals(budget, MONEY, other | chance(rng, len(kind), 0.2 * dirt)),
        "box_office_revenue": decimals(revenue, MONEY, other | chance(rng, len(kind), 0.27 * dirt)),
    }


def _episodes(rng: np.random.Generator, kind: Codes, dirt: float) -> dict[str, Any]:
    single: Flags = (kind != _SERIES) & (kind != _LIMITED)
    seasons = rng.integers(1, 15, len(kind))
    episodes = rng.integers(6, 200, len(kind))
    return {
        "number_of_seasons": integers(seasons, single | chance(rng, len(kind), 0.1 * dirt)),
        "number_of_episodes": integers(episodes, single),
    }
