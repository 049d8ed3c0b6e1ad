"""Watch history and reviews: what users saw, and what they say of it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa

from playhead.testing.generate import words
from playhead.testing.generate.columns import (
    MINUTES,
    PERCENT,
    SCORE,
    categories,
    dates,
    decimals,
    flags,
    identifiers,
    integers,
)
from playhead.testing.generate.draws import (
    Activity,
    Bands,
    Choice,
    Codes,
    Flags,
    Floats,
    Integers,
    Popularity,
    Rhythm,
    Shape,
    Values,
    chance,
    stream,
)
from playhead.testing.generate.people import USER_DIGITS, Population
from playhead.testing.generate.spec import Block, GenerateSpec
from playhead.testing.generate.titles import MOVIE_DIGITS, Catalogue

# Where playback is bad: device, quality, genres (none: all), how bad (1 or 2).
_TROUBLES: Final = (
    ("Mobile", "SD", (), 1),
    ("Tablet", "SD", ("Documentary", "History", "Biography"), 2),
    ("Smart TV", "4K", ("Action", "Adventure", "Sci-Fi"), 2),
    ("Smart TV", "Ultra HD", ("Action", "Adventure", "Sci-Fi", "Sport"), 2),
    ("Laptop", "HD", ("Horror", "Western"), 1),
)

# Rows: progress below 20, 50, 90 and the rest, each untroubled, troubled and badly so.
_ACTIONS: Final = Bands(
    np.array(
        [
            [0.35, 0.25, 0.33, 0.07], [0.25, 0.22, 0.48, 0.05], [0.18, 0.18, 0.60, 0.04],
            [0.28, 0.28, 0.29, 0.15], [0.22, 0.24, 0.44, 0.10], [0.16, 0.20, 0.56, 0.08],
            [0.22, 0.27, 0.22, 0.29], [0.20, 0.26, 0.30, 0.24], [0.18, 0.24, 0.38, 0.20],
            [0.10, 0.12, 0.08, 0.70], [0.10, 0.12, 0.12, 0.66], [0.10, 0.12, 0.16, 0.62],
        ]
    )
)  # fmt: skip
_STARS: Final = Bands(
    np.array(
        [
            [0.09, 0.14, 0.25, 0.30, 0.22],
            [0.16, 0.24, 0.26, 0.22, 0.12],
            [0.28, 0.3, 0.22, 0.13, 0.07],
        ]
    )
)
_OVERRUN: Final = Shape(((0, 0.02), (0.5, 0.6), (0.8, 1.3), (0.95, 2.8), (1, 8)))
_LONGEST_TENTHS: Final = 7_993
_ABROAD: Final = 0.03
_REVIEW_STARS: Final = np.array([0.05, 0.1, 0.25, 0.35, 0.25])
_SENTIMENT_OF_STARS: Final = np.array([0, 0, 1, 2, 2], np.int16)
_SCORE_FROM: Final = np.array([0, 400, 600])
_SCORE_SPAN: Final = np.array([401, 201, 401])


def _poisson(mean: float) -> Choice:
    weights = [1.0]
    for count in range(1, 16):
        weights.append(weights[-1] * mean / count)
    return Choice(tuple(str(count) for count in range(16)), tuple(weights))


_HELPFUL: Final = _poisson(3.0)
_UNHELPFUL: Final = _poisson(2.36)


@dataclass(frozen=True)
class World:
    """What all facts are drawn from: the spec, its users and its titles."""

    spec: GenerateSpec
    people: Population
    catalogue: Catalogue

    @cached_property
    def activity(self) -> Activity:
        """Who does things."""
        return Activity(self.spec.users)

    @cached_property
    def popularity(self) -> Popularity:
        """Which titles they meet."""
        return Popularity(self.spec.movies)

    @cached_property
    def rhythm(self) -> Rhythm:
        """On which days."""
        return Rhythm(self.spec.start, self.spec.days)

    @cached_property
    def troubles(self) -> Codes:
        """How bad playback is, shape (genres, devices, qualities): 0, 1 or 2."""
        shape = [
            len(choice.values) for choice in (words.GENRES, words.WATCH_DEVICES, words.QUALITIES)
        ]
        table = np.zeros(shape, np.int16)
        for device, quality, genres, level in _TROUBLES:
            rows = [words.GENRES.values.index(genre) for genre in genres or words.GENRES.values]
            place = words.WATCH_DEVICES.values.index(device), words.QUALITIES.values.index(quality)
            table[rows, place[0], place[1]] = level
        return table

    def days(self, rng: np.random.Generator, user: Integers, movie: Integers | None) -> Integers:
        """Days of facts: after the user joined and the title came, unless the row is dirty."""
        floor: Integers = self.people.joined[user].astype(np.int64)
        if movie is not None:
            floor = np.maximum(floor, self.catalogue.added[movie])
        careless = chance(rng, len(user), self.spec.dirt)
        return self.rhythm.draw(rng, np.where(careless, 0, floor))

    def user_ids(self, user: Integers) -> pa.Array:
        """Ids of users by index."""
        return identifiers("user_", user, self.spec.users, USER_DIGITS)

    def movie_ids(self, movie: Integers) -> pa.Array:
        """Ids of titles by index."""
        return identifiers("movie_", movie, self.spec.movies, MOVIE_DIGITS)

    def countries(self, rng: np.random.Generator, user: Integers) -> pa.Array:
        """Where users are: mostly at home."""
        away = chance(rng, len(user), _ABROAD)
        home = self.people.country[user]
        return categories(words.COUNTRIES.values, np.where(away, 1 - home, home).astype(np.int16))


@dataclass(frozen=True)
class Viewings:
    """Who watched what when, for one block of sessions; each of shape (rows,)."""

    user: Integers
    movie: Integers
    day: Integers


def draw_viewings(world: World, block: Block) -> Viewings:
    """The block's viewings; sessions and the reviews that follow them share these."""
    rng = stream(world.spec.seed, "viewings", block.number)
    user = world.activity.draw(rng, block.rows)
    movie = world.popularity.draw(rng, block.rows)
    return Viewings(user, movie, world.days(rng, user, movie))


def draw_sessions(world: World, block: Block) -> pa.Table:
    """One block of watch_history, without its duplicates."""
    seen = draw_viewings(world, block)
    rng = stream(world.spec.seed, "sessions", block.number)
    rows, dirt = block.rows, world.spec.dirt
    device = words.WATCH_DEVICES.draw(rng, rows)
    quality = words.QUALITIES.draw(rng, rows)
    trouble = world.troubles[world.catalogue.genre[seen.movie], device, quality]
    progress = _progress(rng, trouble)
    index = np.arange(block.first, block.first + rows)
    columns: dict[str, Any] = {
        "session_id": identifiers("session_", index, world.spec.rows("watch_history"), 6),
        "user_id": world.user_ids(seen.user),
        "movie_id": world.movie_ids(seen.movie),
        "watch_date": dates(world.spec.start, seen.day),
        "device_type": categories(words.WATCH_DEVICES.values, device),
        "watch_duration_minutes": decimals(
            _tenths(rng, world.catalogue.minutes[seen.movie], progress, dirt) * 10,
            MINUTES,
            chance(rng, rows, 0.117 * dirt),
        ),
        "progress_percentage": decimals(progress * 10, PERCENT, chance(rng, rows, 0.081 * dirt)),
        "action": categories(words.ACTIONS, _action(rng, progress, trouble)),
        "quality": categories(words.QUALITIES.values, quality),
        "location_country": world.countries(rng, seen.user),
        "is_download": flags(chance(rng, rows, 0.2)),
        "user_rating": integers(_STARS.draw(rng, trouble) + 1, chance(rng, rows, 0.8)),
    }
    return pa.table(columns)


def _progress(rng: np.random.Generator, trouble: Codes) -> Integers:
    """Tenths of a percent, 0..1000: uniform, squared or cubed where playback is bad."""
    share = rng.random(len(trouble))
    bent: Floats = np.where(trouble > 0, share * share, share)
    bent = np.where(trouble > 1, bent * share, bent)
    return (bent * 1001).astype(np.int64)


def _action(rng: np.random.Generator, progress: Integers, trouble: Codes) -> Codes:
    band = np.searchsorted(np.array([200, 500, 900]), progress, side="right")
    return _ACTIONS.draw(rng, band * 3 + trouble)


def _tenths(rng: np.random.Generator, title: Values, progress: Integers, dirt: float) -> Integers:
    """Tenths of minutes watched: the title's share, or longer than the title where dirty."""
    whole = title.astype(np.int64)
    watched = whole * progress // 100
    longer = (whole * 10 * (1 + _OVERRUN.draw(rng, len(whole)))).astype(np.int64) + 1
    over = chance(rng, len(whole), 0.327 * dirt)
    return np.where(over, np.minimum(longer, _LONGEST_TENTHS), watched)


def draw_reviews(world: World, block: Block) -> pa.Table:
    """One block of reviews: four in five are of a session's user and title."""
    spec = world.spec
    rng = stream(spec.seed, "reviews", block.number)
    rows, dirt = block.rows, spec.dirt
    user, movie, day, verified = _reviewed(rng, world, block)
    stars = _taste().draw(rng, world.catalogue.genre[movie])
    sentiment = _SENTIMENT_OF_STARS[stars]
    text = sentiment * words.TEXTS_PER_SENTIMENT + rng.integers(
        0, words.TEXTS_PER_SENTIMENT, rows, dtype=np.int16
    )
    score = _SCORE_FROM[sentiment] + (rng.random(rows) * _SCORE_SPAN[sentiment]).astype(np.int64)
    helpful = _HELPFUL.draw(rng, rows)
    unvoted = chance(rng, rows, 0.1175 * dirt)
    columns: dict[str, Any] = {
        "review_id": identifiers(
            "review_", np.arange(block.first, block.first + rows), spec.rows("reviews"), 6
        ),
        "user_id": world.user_ids(user),
        "movie_id": world.movie_ids(movie),
        "rating": integers(stars + 1),
        "review_date": dates(spec.start, day),
        "device_type": categories(words.LOG_DEVICES.values, words.LOG_DEVICES.draw(rng, rows)),
        "is_verified_watch": flags(verified),
        "helpful_votes": integers(helpful, unvoted),
        "total_votes": integers(helpful + _UNHELPFUL.draw(rng, rows), unvoted),
        "review_text": categories(words.REVIEW_TEXTS, text, chance(rng, rows, 0.05 * dirt)),
        "sentiment": categories(words.SENTIMENTS, sentiment),
        "sentiment_score": decimals(score * 10, SCORE, chance(rng, rows, 0.078 * dirt)),
    }
    return pa.table(columns)


def _reviewed(
    rng: np.random.Generator, world: World, block: Block
) -> tuple[Integers, Integers, Integers, Flags]:
    """User, title, day and whether the title was watched, each of shape (rows,)."""
    rows = block.rows
    user, movie = world.activity.draw(rng, rows), world.popularity.draw(rng, rows)
    day = world.days(rng, user, movie)
    if not world.spec.sessions:
        return user, movie, day, np.zeros(rows, np.bool_)
    seen = draw_viewings(world, _reviewed_block(world.spec, block))
    pick = rng.integers(0, len(seen.user), rows)
    verified = chance(rng, rows, 0.805)
    later = np.minimum(seen.day[pick] + rng.integers(0, 15, rows), world.spec.days - 1)
    return (
        np.where(verified, seen.user[pick], user),
        np.where(verified, seen.movie[pick], movie),
        np.where(verified, later, day),
        verified,
    )


def _reviewed_block(spec: GenerateSpec, block: Block) -> Block:
    sessions, reviews = list(spec.blocks("watch_history")), list(spec.blocks("reviews"))
    return sessions[block.number * len(sessions) // len(reviews)]


def _taste() -> Bands:
    """Review stars by genre: some genres please more than others."""
    genres = len(words.GENRES.values)
    tilt = (np.arange(genres) * 7 % genres) / genres - 0.5
    weights = _REVIEW_STARS * (1 + 0.6 * tilt[:, None] * np.array([-1, -0.5, 0, 0.5, 1]))
    return Bands(weights / weights.sum(axis=1, keepdims=True))
