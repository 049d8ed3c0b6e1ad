"""The users file, and what the facts need to know of each user."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from playhead.testing.generate import words
from playhead.testing.generate.columns import (
    SPEND,
    categories,
    dates,
    decimals,
    flags,
    identifiers,
    integers,
    positions,
    times,
)
from playhead.testing.generate.draws import (
    Choice,
    Codes,
    Floats,
    Integers,
    Shape,
    chance,
    span,
    stream,
)
from playhead.testing.generate.spec import Block, GenerateSpec

USER_DIGITS: Final = 5

# The real set's accounts begin from 517 days before its 731-day period to 577 days into it.
_SIGNUPS: Final = (-517, 577, 731)

_AGE: Final = Shape(
    (
        (0, 2),
        (0.01, 7),
        (0.05, 15),
        (0.25, 27),
        (0.5, 35),
        (0.75, 43),
        (0.95, 55),
        (0.99, 63),
        (1, 88),
    )
)
_SPEND: Final = Shape(
    (
        (0, 11), (0.01, 122), (0.05, 286), (0.25, 760), (0.5, 1330), (0.75, 2130), (0.95, 3700),
        (0.99, 4900), (1, 6000),
    )
)  # fmt: skip
_PLAN_FACTOR: Final = np.array([0.8, 0.97, 1.05, 1.35])
_HOUSEHOLD: Final = Choice(
    ("1", "2", "3", "4", "5", "6", "7", "8"),
    (0.196, 0.304, 0.196, 0.154, 0.079, 0.042, 0.02, 0.009),
)


_FIRST_IN_MAIL: Final = tuple(f"{name.lower()}." for name in words.FIRST_NAMES.values)
_LAST_IN_MAIL: Final = tuple(name.lower() for name in words.LAST_NAMES.values)
_HOST_IN_MAIL: Final = tuple(f"@{host}" for host in words.MAIL_HOSTS.values)


@dataclass(frozen=True)
class Population:
    """What facts need of users, by user index; 3 bytes a user.

    Attributes:
        country: position in COUNTRIES, shape (users,), int8.
        joined: day of the subscription's start, counted from the period's start,
            shape (users,), int16.
    """

    country: npt.NDArray[np.int8]
    joined: npt.NDArray[np.int16]

    @staticmethod
    def joined_from(parts: "list[Population]") -> "Population":
        """One population from those of consecutive blocks."""
        return Population(
            np.concatenate([part.country for part in parts]),
            np.concatenate([part.joined for part in parts]),
        )


def draw_population(spec: GenerateSpec, block: Block) -> Population:
    """The facts' view of one block of users."""
    rng = stream(spec.seed, "population", block.number)
    country = words.COUNTRIES.draw(rng, block.rows)
    low, high = span(spec.days, _SIGNUPS)
    joined = rng.integers(low, high + 1, block.rows)
    return Population(country.astype(np.int8), joined.astype(np.int16))


def draw_users(spec: GenerateSpec, people: Population, block: Block) -> pa.Table:
    """One block of the users file, without its duplicates."""
    rng = stream(spec.seed, "users", block.number)
    rows, dirt = block.rows, spec.dirt
    own = slice(block.first, block.first + rows)
    country, joined = people.country[own].astype(np.int16), people.joined[own].astype(np.int64)
    plan = words.PLANS.draw(rng, rows)
    columns: dict[str, Any] = {
        "user_id": identifiers("user_", _indices(block), spec.users, USER_DIGITS),
        **_names(rng, block),
        "age": integers(_ages(rng, rows, dirt), chance(rng, rows, 0.12 * dirt)),
        "gender": categories(
            words.GENDERS.values, words.GENDERS.draw(rng, rows), chance(rng, rows, 0.08 * dirt)
        ),
        "country": categories(words.COUNTRIES.values, country),
        "state_province": _states(rng, country),
        "city": categories(words.CITIES.values, words.CITIES.draw(rng, rows)),
        "subscription_plan": categories(words.PLANS.values, plan),
        "subscription_start_date": dates(spec.start, joined),
        "is_active": flags(chance(rng, rows, 0.85)),
        "monthly_spend": decimals(_spend(rng, plan, dirt), SPEND, chance(rng, rows, 0.1 * dirt)),
        "primary_device": categories(
            words.PRIMARY_DEVICES.values, words.PRIMARY_DEVICES.draw(rng, rows)
        ),
        "household_size": integers(_HOUSEHOLD.draw(rng, rows) + 1, chance(rng, rows, 0.15 * dirt)),
        "created_at": _created(rng, spec, joined),
    }
    return pa.table(columns)


def _indices(block: Block) -> Integers:
    return np.arange(block.first, block.first + block.rows)


def _names(rng: np.random.Generator, block: Block) -> dict[str, Any]:
    """Names, and an address of first name, last name and the user's number: so it is unique."""
    first = words.FIRST_NAMES.draw(rng, block.rows)
    last = words.LAST_NAMES.draw(rng, block.rows)
    host = words.MAIL_HOSTS.draw(rng, block.rows)
    nothing = np.zeros(block.rows, np.int16)
    parts = (
        categories(_FIRST_IN_MAIL, first).cast(pa.string()),
        categories(_LAST_IN_MAIL, last).cast(pa.string()),
        positions(_indices(block) + 1).cast(pa.string()),
        categories(_HOST_IN_MAIL, host).cast(pa.string()),
    )
    separator = categories(("",), nothing).cast(pa.string())
    return {
        "email": pc.binary_join_element_wise(*parts, separator),
        "first_name": categories(words.FIRST_NAMES.values, first),
        "last_name": categories(words.LAST_NAMES.values, last),
    }


def _states(rng: np.random.Generator, country: Codes) -> pa.Array:
    american = words.STATES.draw(rng, len(country))
    canadian = words.PROVINCES.draw(rng, len(country)) + np.int16(len(words.STATES.values))
    codes = np.where(country == 0, american, canadian)
    return categories(words.STATES.values + words.PROVINCES.values, codes)


def _ages(rng: np.random.Generator, rows: int, dirt: float) -> Integers:
    ages = _AGE.draw(rng, rows).astype(np.int64)
    odd = rng.random(rows)
    ages = np.where(odd < 0.002 * dirt, -1 - (ages % 7), ages)
    return np.where(odd > 1 - 0.001 * dirt, 101 + (ages % 9), ages)


def _spend(rng: np.random.Generator, plan: Codes, dirt: float) -> Integers:
    usual: Floats = _SPEND.draw(rng, len(plan)) * _PLAN_FACTOR[plan]
    huge = rng.integers(10_000, 100_000, len(plan))
    return np.where(chance(rng, len(plan), 0.01 * dirt), huge, usual.astype(np.int64))


def _created(rng: np.random.Generator, spec: GenerateSpec, joined: Integers) -> pa.Array:
    """The account is made in the month before the subscription, or on any day where dirty."""
    rows = len(joined)
    low, high = span(spec.days, _SIGNUPS)
    days = joined - rng.integers(0, 31, rows)
    anywhere = rng.integers(low, high + 1, rows)
    days = np.where(chance(rng, rows, spec.dirt), anywhere, days)
    return times(spec.start, days, rng.integers(0, 86_400_000_000, rows))
