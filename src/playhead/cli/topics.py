"""Commands for the event log's topics: topics create, list, describe."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from playhead.cli.formats import write_json
from playhead.cli.invocation import Invocation, JsonOption, command
from playhead.cli.terminal import note, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from playhead.assemble import Workspace
    from playhead.eventlog import EventLog
    from playhead.eventlog.kafka import KafkaEventLog

app = typer.Typer(
    name="topics",
    no_args_is_help=True,
    rich_help_panel="Operations",
    help="Make, list and describe the topics of the event log.",
)


@command(
    app,
    examples=[
        "playhead topics create",
        "playhead topics create --partitions 12 --replication 3 --retention-days 7",
    ],
)
def create(
    invocation: Invocation,
    partitions: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="Of each topic; by default as in playhead.toml."),
    ] = None,
    replication: Annotated[
        int | None, typer.Option(min=1, max=9, help="Copies of each partition of a new topic.")
    ] = None,
    retention_days: Annotated[
        int | None,
        typer.Option(min=1, help="The brokers delete older events, whoever has not read them."),
    ] = None,
) -> None:
    """Make the topics of all contracts, or bring those that are there up to these settings.

    On brokers a topic can get more partitions, never fewer: some keys then go to other
    partitions, with the events that come from now on. Copies are set when a topic is made.
    """
    from dataclasses import replace

    from playhead.contracts import TOPICS
    from playhead.errors import SettingError
    from playhead.eventlog import open_log

    with invocation.open() as workspace:
        settings = workspace.settings.log
        settings = replace(
            settings,
            partitions=partitions or settings.partitions,
            replication=replication or settings.replication,
            retention_days=retention_days or settings.retention_days,
        )
        if not settings.brokers and (replication, retention_days) != (None, None):
            raise SettingError(
                "Replication and retention by the brokers are there on brokers alone.",
                hint="Name them by brokers in [log] of playhead.toml, or use retention_days there.",
            )
        with open_log(workspace.path, settings, clock=workspace.clock) as log:
            grown = _on_brokers(log)
            for name, contract in TOPICS.items():
                if grown is not None:
                    _grow(grown, name, settings.partitions)
                log.create_topic(name, contract.schema, partitions=settings.partitions)
                if grown is not None:
                    grown.catalog.keep_for(name, timedelta(days=settings.retention_days))
        note(f"{len(TOPICS)} topics are there, with {settings.partitions} partitions each")


@command(app, name="list", examples=["playhead topics list", "playhead topics list --json"])
def list_topics(invocation: Invocation, json: JsonOption = False) -> None:
    """List the topics: partitions, copies, retention, events and size where they are known."""
    with invocation.open() as workspace:
        log = workspace.log
        rows = _listed(workspace, log)
    if json:
        write_json(rows)
    elif rows:
        print_table(_table(rows))
    else:
        note("there are no topics: `playhead topics create` makes them")


@command(app, examples=["playhead topics describe playback"])
def describe(
    invocation: Invocation,
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Its name, without the prefix.")],
    json: JsonOption = False,
) -> None:
    """Show a topic's partitions, and for each group how many events it has not committed."""
    with invocation.open() as workspace:
        log = workspace.log
        starts, ends = log.start_offsets(topic), log.end_offsets(topic)
        kafka = _on_brokers(log)
        leaders = {} if kafka is None else kafka.catalog.leaders(topic)
        groups = {name: log.committed(name, topic) for name in log.groups(topic)}
    rows = []
    for partition, end in ends.items():
        start = starts[partition]
        row: dict[str, Any] = {"partition": partition, "start": start, "end": end}
        if leaders:
            row["leader"] = leaders.get(partition, "none")
        for name, at in groups.items():
            row[f"lag of {name}"] = end - max(at.get(partition, 0), start)
        rows.append(row)
    if json:
        write_json({"topic": topic, "partitions": rows, "groups": groups})
    else:
        print_table(_table(rows))


def _on_brokers(log: "EventLog") -> "KafkaEventLog | None":
    from playhead.eventlog import SqliteEventLog

    if isinstance(log, SqliteEventLog):
        return None
    from playhead.eventlog.kafka import KafkaEventLog

    return log if isinstance(log, KafkaEventLog) else None


def _grow(log: "KafkaEventLog", topic: str, partitions: int) -> None:
    if topic in log.topics() and log.partitions(topic) < partitions:
        log.catalog.add_partitions(topic, partitions)
        note(f"topic {topic} has {partitions} partitions now")


def _listed(workspace: "Workspace", log: "EventLog") -> "list[dict[str, Any]]":
    names = log.topics()
    kafka = _on_brokers(log)
    kept = {} if kafka is None else kafka.catalog.kept(names)
    rows = []
    for name in names:
        starts, ends = log.start_offsets(name), log.end_offsets(name)
        row: dict[str, Any] = {"topic": name, "partitions": log.partitions(name)}
        if kafka is not None:
            row |= {
                "replication": kept[name].replication,
                "retention": _days(kept[name].retention),
            }
        else:
            row["retention"] = _days(workspace.settings.retention)
        row["events"] = sum(end - starts[partition] for partition, end in ends.items())
        rows.append(row)
    return rows


def _days(age: timedelta | None) -> str:
    return "for ever" if age is None else f"{age / timedelta(days=1):g} days"


def _table(rows: "Sequence[Mapping[str, Any]]") -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name, value in rows[0].items():
        table.add_column(name, justify="right" if isinstance(value, int) else "left")
    for row in rows:
        values = row.values()
        table.add_row(*(f"{v:,}" if isinstance(v, int) else Text(str(v)) for v in values))
    return table
