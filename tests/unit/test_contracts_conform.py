"""Arrow tables made to fit a contract, or refused with the place and the reason."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from playhead.contracts import check, contract
from playhead.errors import ContractError

RATING = contract("rating")


def table(**changes: Any) -> pa.Table:
    """Three good ratings with some columns replaced; a change to None removes a column."""
    columns: dict[str, Any] = {
        "event_id": ["r1", "r2", "r3"],
        "event_type": ["rating"] * 3,
        "event_time": [datetime(2025, 3, 5, 20)] * 3,
        "user_id": ["u1", "u2", "u3"],
        "device_type": ["Mobile"] * 3,
        "movie_id": ["m1", "m2", "m3"],
        "rating": pa.array([1, 2, 3], pa.int32()),
    } | changes
    return pa.table({name: values for name, values in columns.items() if values is not None})


def column(name: str, values: Any) -> list[Any]:
    """What becomes of a column."""
    found: list[Any] = check(RATING, table(**{name: values}))[name].to_pylist()
    return found


def test_columns_are_ordered_and_optional_ones_added() -> None:
    checked = check(RATING, table().select(list(reversed(table().column_names))))
    assert checked.schema == RATING.schema
    assert checked["review_text"].null_count == 3


def test_a_table_that_fits_is_unchanged() -> None:
    checked = check(RATING, table())
    assert check(RATING, checked).equals(checked)
    assert check(RATING, checked.slice(0, 0)).num_rows == 0


def test_text_is_parsed() -> None:
    assert column("rating", ["3.0", "4", "-0.0"]) == [3, 4, 0]
    assert column("is_verified_watch", ["True", "False", None]) == [True, False, None]
    assert column("review_date", ["2025-03-05", None, "2024-02-29"])[2] == date(2024, 2, 29)
    times = ["2025-03-05 20:00:00.5", "2025-03-05T20:00:00+05:00", "2025-03-05T20:00:00Z"]
    assert column("event_time", times) == [
        datetime(2025, 3, 5, 20, 0, 0, 500000),
        datetime(2025, 3, 5, 15),
        datetime(2025, 3, 5, 20),
    ]


@pytest.mark.parametrize("type_", [pa.large_string(), pa.string_view()])
def test_every_kind_of_text(type_: pa.DataType) -> None:
    assert column("user_id", pa.array(["a", "b", "c"], type_)) == ["a", "b", "c"]
    assert column("rating", pa.array(["1.0", "2", "3"], type_)) == [1, 2, 3]


def test_dictionaries_and_empty_columns() -> None:
    assert column("device_type", pa.array(["Mobile", "Tablet", "Mobile"]).dictionary_encode())
    assert column("review_text", pa.nulls(3)) == [None] * 3


@pytest.mark.parametrize(
    "values",
    [
        ["0.12345", "-0.12345", "1"],
        [0.12345, -0.12345, 1.0],
        [Decimal("0.12345"), Decimal("-0.12345"), Decimal(1)],
    ],
)
def test_decimals_are_rounded_half_up(values: list[Any]) -> None:
    rounded = [Decimal("0.1235"), Decimal("-0.1235"), Decimal(1)]
    assert column("sentiment_score", values) == rounded


def test_a_float_is_read_by_its_shortest_text() -> None:
    users = pa.table({"user_id": ["u"], "email": ["e"], "monthly_spend": [1.005]})
    assert check(contract("users"), users)["monthly_spend"].to_pylist() == [Decimal("1.01")]


def test_integers_become_decimals() -> None:
    assert column("sentiment_score", pa.array([1, 0, None], pa.int64())) == [1, 0, None]


def test_times_become_naive_utc_microseconds() -> None:
    zoned = pa.array([datetime(2025, 3, 5, 20)] * 3, pa.timestamp("ns", "Asia/Tokyo"))
    assert column("event_time", zoned) == [datetime(2025, 3, 5, 20)] * 3


def test_a_pandas_frame() -> None:
    frame = pd.DataFrame(table().to_pandas()).assign(helpful_votes=[1.0, None, 3.0])
    checked = check(RATING, pa.Table.from_pandas(frame, preserve_index=False))
    assert checked["helpful_votes"].to_pylist() == [1, None, 3]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stars": [1, 2, 3]}, "unknown column 'stars'"),
        ({"movie_id": None}, "required column 'movie_id' is missing"),
        ({"movie_id": ["m", None, "m"]}, "column 'movie_id', row 1: is null"),
        ({"user_id": ["u", "u", ""]}, "column 'user_id', row 2: '' is empty"),
        ({"device_type": ["Mobile", "Car", "TV"]}, "row 1: 'Car' is not one of Desktop, Laptop"),
        ({"rating": ["1", "2", "3.5"]}, "column 'rating', row 2: '3.5' is no int32"),
        ({"rating": [1, 2**40, 3]}, f"column 'rating', row 1: {2**40} is no int32"),
        ({"rating": [True, True, False]}, "column 'rating' is bool, which does not become int32"),
        ({"movie_id": [1, 2, 3]}, "column 'movie_id' is int64, which does not become string"),
        ({"sentiment_score": ["1", "x", "y"]}, r"row 1: 'x' is no decimal\(9,4\)"),
        ({"sentiment_score": [1.0, 2.0, 1e9]}, r"row 2: 1000000000.0 is no decimal\(9,4\)"),
        ({"event_time": ["2025-03-05 20:00:00", "?", "?"]}, r"row 1: '\?' is no timestamp"),
        ({"event_time": [date(2025, 3, 5)] * 3}, "is date32.day., which does not become timest"),
        ({"review_date": ["2025-03-05", "05/03/2025", None]}, "row 1: '05/03/2025' is no date"),
        ({"review_date": [datetime(2025, 3, 5), datetime(2025, 3, 5, 1), None]}, "row 1: .* no da"),
        ({"is_verified_watch": ["yes", "no", "no"]}, "row 0: 'yes' is no boolean"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ContractError, match=reason):
        check(RATING, table(**changes))


def test_a_column_given_twice_is_refused() -> None:
    twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["user_id", "user_id"])
    with pytest.raises(ContractError, match="'user_id' is there twice"):
        check(contract("users"), twice)


def test_rows_are_counted_across_chunks() -> None:
    chunks = table(rating=pa.chunked_array([["1"], ["2"], ["bad"]]))
    with pytest.raises(ContractError, match="row 2: 'bad'"):
        check(RATING, chunks)


@pytest.mark.parametrize(
    ("text", "exact"),
    [
        ("1e-9999999", "0.00"),
        ("0e-99999999", "0.00"),
        ("1." + "0" * 50_000, "1.00"),
        ("1.00499999999999999999999999999", "1.00"),
        ("1.5e+1", "15.00"),
    ],
)
def test_numbers_that_arrow_cannot_parse_are_exact(text: str, exact: str) -> None:
    """Arrow reads beyond its tables for these, and gives 0 or ends the process."""
    search = contract("search")
    columns = {f.name: pa.nulls(2, f.type) for f in search.fields}
    columns |= {f.name: pa.array(["x"] * 2) for f in search.fields if pa.types.is_string(f.type)}
    columns |= {"event_type": pa.array(["search"] * 2), "device_type": pa.array(["Mobile"] * 2)}
    columns |= {"event_time": pa.array([datetime(2025, 3, 5)] * 2)}
    columns |= {"results_returned": pa.array([1, 2]), "had_typo": pa.array([True, False])}
    columns |= {"search_duration_seconds": pa.array([text, None])}
    found = check(search, pa.table(columns))["search_duration_seconds"].to_pylist()
    assert found == [Decimal(exact), None]


def test_text_with_a_wild_exponent_is_no_integer() -> None:
    with pytest.raises(ContractError, match="'1e-9999999' is no int32"):
        column("rating", ["1", "1e-9999999", "2"])
