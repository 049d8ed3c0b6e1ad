"""Contracts: the `.avsc` files, what is made from them, and how they may change."""

import copy
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import avro.schema
import pyarrow as pa
import pytest
from rich.console import Console

from playhead import contracts
from playhead.contracts import DIMENSIONS, LOG_COLUMNS, TOPICS, contract
from playhead.contracts.describe import describe, describe_all, markdown, page, table
from playhead.contracts.evolution import compatible
from playhead.contracts.registry import avsc_text, parse
from playhead.errors import ContractError, UnknownTopicError

ALL = [*TOPICS, *DIMENSIONS]
ENVELOPE = ["event_id", "event_type", "event_time", "user_id", "session_id", "device_type"]
NO_DEVICE = {"catalog", "account", "dead_letters"}
FILES = {
    "playback": "watch_history",
    "search": "search_logs",
    "impression": "recommendation_logs",
    "rating": "reviews",
    "users": "users",
    "movies": "movies",
}


def changed(name: str, field: str, **properties: Any) -> dict[str, Any]:
    """A contract's `.avsc` with some properties of one field replaced."""
    avro_ = copy.deepcopy(contract(name).avro)
    next(f for f in avro_["fields"] if f["name"] == field).update(properties)
    return avro_


def with_field(contract_name: str, **properties: Any) -> dict[str, Any]:
    """A contract's `.avsc` with one more field."""
    avro_ = copy.deepcopy(contract(contract_name).avro)
    avro_["fields"].append({"doc": "New.", **properties})
    return avro_


def test_names_and_files() -> None:
    assert list(DIMENSIONS) == ["users", "movies"]
    assert {name: contract(name).file for name in ALL if contract(name).file} == FILES
    assert {file: known.name for file, known in contracts.FILES.items()} == {
        file: name for name, file in FILES.items()
    }


def test_an_event_type_belongs_to_one_topic() -> None:
    values = {name: topic.field("event_type").values for name, topic in TOPICS.items()}
    assert values == {
        "playback": ("watch",),
        "search": ("search",),
        "impression": ("impression",),
        "rating": ("rating",),
        "heartbeat": ("play", "pause", "resume", "seek", "stop", "complete"),
        "interaction": ("page_view", "click", "scroll", "hover"),
        "telemetry": ("bandwidth", "rebuffer", "error", "crash", "resolution"),
        "catalog": ("title_added", "title_changed"),
        "account": ("plan_changed", "cancelled"),
        "dead_letters": ("rejected", "recovered"),
    }
    every = [value for of_topic in values.values() for value in of_topic]
    assert len(every) == len(set(every))


def test_what_events_are_partitioned_by() -> None:
    keys = {name: topic.partition_key for name, topic in TOPICS.items()}
    others = {"catalog": "movie_id", "dead_letters": "letter_id"}
    assert keys == dict.fromkeys(TOPICS, "user_id") | others
    for name, key in keys.items():
        assert contract(name).field(key).required
        assert contract(name).field(key).not_empty


def test_dead_letters_keep_bytes() -> None:
    letters = contract("dead_letters")
    assert letters.schema.field("body") == pa.field("body", pa.binary())
    assert "| `body` | binary |" in markdown(letters)
    assert not letters.field("user_id").required


def test_a_title_changes_only_in_columns_that_it_has() -> None:
    movies, catalog = contract("movies").schema, contract("catalog").schema
    assert [catalog.field(f.name).type for f in movies] == [f.type for f in movies]


@pytest.mark.filterwarnings("ignore:Unknown local-timestamp-micros")
@pytest.mark.parametrize("name", ALL)
def test_every_schema_is_valid_avro(name: str) -> None:
    schema = avro.schema.parse(avsc_text(name))
    assert schema.fullname == f"playhead.{name}"


@pytest.mark.parametrize("name", ALL)
def test_every_field_says_what_it_is(name: str) -> None:
    for field in contract(name).fields:
        assert field.doc.endswith(".")
        assert field.minimum is None or field.minimum < field.maximum


@pytest.mark.parametrize("name", TOPICS)
def test_every_topic_begins_with_the_envelope(name: str) -> None:
    topic = contract(name)
    envelope = ENVELOPE[:4] if name in NO_DEVICE else ENVELOPE
    assert topic.schema.names[: len(envelope)] == envelope
    optional = {n for n in envelope if not topic.field(n).required}
    assert optional <= ({"user_id"} if name in NO_DEVICE else {"session_id"})
    assert topic.key == ("event_id",)
    assert topic.not_null
    assert not set(LOG_COLUMNS.names) & set(topic.schema.names)


@pytest.mark.parametrize("name", ALL)
def test_keys_and_cleaning_rules_name_fields(name: str) -> None:
    known = contract(name)
    assert all(known.field(f).required for f in known.key)
    assert all(known.field(f).not_empty for f in known.not_null)


def test_arrow_types_of_playback() -> None:
    schema = contract("playback").schema
    assert schema.field("event_time") == pa.field("event_time", pa.timestamp("us"), nullable=False)
    assert schema.field("watch_date") == pa.field("watch_date", pa.date32())
    assert schema.field("watch_duration_minutes").type == pa.decimal128(12, 2)
    assert schema.field("user_rating").type == pa.int32()
    assert schema.field("is_download").type == pa.bool_()


def test_enums_hold_what_avro_symbols_cannot() -> None:
    assert "Smart TV" in contract("playback").field("device_type").values
    assert "4K" in contract("playback").field("quality").values
    assert "Premium+" in contract("users").field("subscription_plan").values


def test_column_counts_of_the_dimensions() -> None:
    assert (len(contract("users").fields), len(contract("movies").fields)) == (16, 18)


def test_bounds_are_exact_numbers() -> None:
    assert contract("impression").field("recommendation_score").maximum == Decimal(1)


def test_no_money_or_minutes_is_a_float() -> None:
    types = [f.type for name in ALL for f in contract(name).fields]
    assert not any(pa.types.is_floating(t) for t in types)


def test_unknown_topic_suggests_the_nearest() -> None:
    with pytest.raises(UnknownTopicError, match=r"did you mean 'playback'\?.*users, movies"):
        contract("playbak")


def test_unknown_field_lists_the_fields() -> None:
    with pytest.raises(ContractError, match="no field 'stars'"):
        contract("rating").field("stars")


def test_a_floating_point_field_is_refused() -> None:
    with pytest.raises(ContractError, match=r"'rating' has type \"double\""):
        parse(changed("rating", "rating", type="double"))


def test_a_missing_property_is_named() -> None:
    avro_ = copy.deepcopy(contract("rating").avro)
    del avro_["key"]
    with pytest.raises(ContractError, match=r"rating\.avsc: property 'key' is missing"):
        parse(avro_)


def test_contracts_can_be_compared_and_hashed() -> None:
    assert parse(json.loads(avsc_text("users"))) == contract("users")
    assert len({contract(name) for name in ALL}) == len(ALL)


def test_exports_exist() -> None:
    assert all(hasattr(contracts, name) for name in contracts.__all__)


@pytest.mark.parametrize("name", ALL)
def test_json_description(name: str) -> None:
    known = contract(name)
    described = json.loads(describe(known, "json"))
    assert described["key"] == list(known.key)
    assert [f["name"] for f in described["fields"]] == known.schema.names
    assert all({"name", "type", "required", "doc"} <= set(f) for f in described["fields"])
    logged = [f["name"] for f in described.get("log_columns", [])]
    assert logged == (["partition", "offset", "ingest_time"] if name in TOPICS else [])


def test_json_description_of_a_field() -> None:
    fields = {f["name"]: f for f in json.loads(describe(contract("playback"), "json"))["fields"]}
    assert fields["progress_percentage"]["type"] == "decimal(5,2)"
    assert (fields["progress_percentage"]["minimum"], fields["user_rating"]["maximum"]) == (0, 5)
    assert fields["quality"]["values"] == ["SD", "HD", "4K", "Ultra HD"]
    assert "minimum" not in fields["movie_id"]


def test_avro_description_is_the_file() -> None:
    assert json.loads(describe(contract("users"), "avro")) == contract("users").avro
    assert (
        len(json.loads(describe_all("avro"))) == len(json.loads(describe_all("json"))) == len(ALL)
    )


def test_tables_name_every_field() -> None:
    console = Console(file=io.StringIO(), width=80)
    for name in ALL:
        console.print(table(contract(name)))
        text = describe(contract(name), "table")
        assert all(field in text for field in contract(name).schema.names)
    assert all(name in describe_all("table") for name in ALL)


def test_markdown_marks_made_up_columns() -> None:
    text = markdown(contract("impression"))
    assert "made from `event_id`, `recommendation_date`, `time_of_day`" in text
    assert "| `recommendation_id` |" in text


def test_the_documentation_is_what_the_contracts_say() -> None:
    written = Path(__file__).parents[2] / "docs" / "contracts.md"
    assert written.read_text(encoding="utf-8") == page(), (
        "run `python -m playhead.contracts.describe > docs/contracts.md`"
    )


@pytest.mark.parametrize("name", ALL)
def test_a_contract_goes_with_itself(name: str) -> None:
    assert compatible(avsc_text(name), contract(name).avro, "FULL") == []


def test_an_optional_field_may_be_added() -> None:
    new = with_field("rating", name="spoiler", type=["null", "boolean"], default=None)
    assert compatible(new, contract("rating").avro, "FULL") == []


def test_a_required_field_may_not() -> None:
    new = with_field("rating", name="spoiler", type="boolean")
    assert compatible(new, contract("rating").avro, "FORWARD") == []
    reasons = compatible(new, contract("rating").avro, "BACKWARD")
    assert reasons == [
        "new reads old: field 'spoiler' is not written, and the reader has no default for it"
    ]


def test_a_new_value_breaks_old_readers_only() -> None:
    new = changed("playback", "quality", values=["SD", "HD", "4K", "Ultra HD", "8K"])
    assert compatible(new, contract("playback").avro, "BACKWARD") == []
    reasons = compatible(new, contract("playback").avro, "FULL")
    assert reasons == ["old reads new: field 'quality' may hold '8K', unknown to the reader"]


def test_a_closed_list_does_not_read_an_open_text() -> None:
    new = changed("playback", "location_country", values=["USA"])
    assert "any text" in compatible(new, contract("playback").avro, "BACKWARD")[0]


@pytest.mark.parametrize(
    ("field", "type_", "reason"),
    [
        ("rating", "string", "reader type: string not compatible with writer type: int"),
        (
            "sentiment_score",
            ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3}],
            "read as decimal(9,3) and was written as decimal(9,4)",
        ),
        ("review_date", ["null", "int"], "read as plain and was written as date"),
    ],
)
def test_a_changed_type_is_refused(field: str, type_: Any, reason: str) -> None:
    reasons = compatible(changed("rating", field, type=type_), contract("rating").avro, "BACKWARD")
    assert len(reasons) == 1
    assert reason in reasons[0]


def test_evolution_refuses_what_is_no_schema() -> None:
    with pytest.raises(ContractError, match="no JSON"):
        compatible("{", avsc_text("rating"))
    with pytest.raises(ContractError, match="no Avro record"):
        compatible('"string"', avsc_text("rating"))
    with pytest.raises(ContractError, match="no valid Avro"):
        compatible(changed("rating", "rating", type="stars"), avsc_text("rating"))
    with pytest.raises(ContractError, match="unknown mode"):
        compatible(avsc_text("rating"), avsc_text("rating"), "BOTH")  # type: ignore[arg-type]
