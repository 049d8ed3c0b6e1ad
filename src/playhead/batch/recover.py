"""Recovery: dead letters that fit today's contracts go where they were meant to go.

A batch of letters is decided upon, appended to its topics, and then marked as recovered. Who is
killed between the two appends it again the next time: each event has an id (the letter's, if it
has none of its own), so it counts once, as any repeat does.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import msgspec
import pyarrow as pa

from playhead.batch.deadletters import RECOVERED, TOPIC, DeadLetters, Wanted
from playhead.clock import Clock
from playhead.contracts import TOPICS
from playhead.errors import ContractError
from playhead.eventlog import EventLog

if TYPE_CHECKING:
    from playhead.contracts.mixed import Decoded

__all__ = ["Decoder", "Patch", "Recoverer", "RecoveryReport"]

_EXAMPLES = 20
_LONGEST_REASON = 200
_ID = "event_id"
_NULL = b"null"

_Object = dict[str, msgspec.Raw]
_objects = msgspec.json.Decoder(_Object)
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Decoder(Protocol):
    """Makes tables of events of all topics, as `MixedDecoder` does."""

    def array(
        self, body: bytes, *, received: datetime, sent_at: datetime | None = None
    ) -> "Decoded":
        """The events of a JSON array, those refused with the reason."""


@dataclass(frozen=True)
class Patch:
    """What to change in an event before it is looked at again.

    Attributes:
        values: by field, its new value as JSON.
        without: fields to leave out.
    """

    values: Mapping[str, bytes] = field(default_factory=dict)
    without: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, settings: Sequence[str] = (), without: Sequence[str] = ()) -> "Patch":
        """A patch from texts such as `rating=5` or `device_type=Smart TV`.

        A value is read as JSON if it is some, and taken as text otherwise.

        Raises:
            ContractError: a text has no "=", a field is named twice, or it is the event's id.
        """
        values: dict[str, bytes] = {}
        for text in settings:
            name, equals, value = text.partition("=")
            if not (name and equals):
                raise ContractError(f"{text!r} sets nothing", hint="Write it as field=value.")
            if name == _ID:
                raise ContractError(
                    "one id for many events would make them one",
                    hint=f"Leave {_ID} out (--unset {_ID}): the letter's own id takes its place.",
                )
            if name in values or name in without:
                raise ContractError(f"field {name!r} is to be changed twice")
            values[name] = _as_json(value)
        return cls(values, frozenset(without))

    def apply(self, body: bytes, letter_id: str) -> bytes:
        """The event with the changes, and with an id; its other values byte for byte.

        Raises:
            ContractError: the bytes are no JSON object.
        """
        try:
            event = _objects.decode(body)
        except _DECODE_ERRORS as error:
            raise ContractError(f"it is no JSON object: {error}") from None
        changed = {k: v for k, v in event.items() if k not in self.without}
        changed |= {name: msgspec.Raw(value) for name, value in self.values.items()}
        if bytes(changed.get(_ID, _NULL)) == _NULL:
            changed[_ID] = msgspec.Raw(_as_json(letter_id))
        return body if changed == event else msgspec.json.encode(changed)


@dataclass
class RecoveryReport:
    """What one recovery did, or would do.

    Attributes:
        letters: that were looked at.
        recovered: events that were good now, by topic.
        refused: letters that are still refused.
        reasons: some of the reasons for that, each with the number of letters.
        examples: by such a reason, the id of one letter.
    """

    letters: int = 0
    recovered: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def refuse(self, letter_id: str, reason: str) -> None:
        """Count a letter that is still refused."""
        self.refused += 1
        short = reason[:_LONGEST_REASON]
        if short in self.reasons or len(self.reasons) < _EXAMPLES:
            self.reasons[short] += 1
            self.examples.setdefault(short, letter_id)


@dataclass(frozen=True)
class _Candidate:
    """A letter whose bytes are an event to be looked at."""

    letter_id: str
    refused_at: datetime
    topic: str | None
    reason: str
    index: int
    sent_at: datetime | None
    body: bytes | None

    @property
    def arrival(self) -> tuple[datetime, datetime | None]:
        """By what its time is judged: when it came, and when its sender says to have sent it."""
        return self.refused_at, self.sent_at


class Recoverer:
    """Looks at dead letters again, and sends on what is good now.

    Args:
        decoder: knows today's contracts and limits.
    """

    def __init__(self, log: EventLog, letters: DeadLetters, decoder: Decoder, clock: Clock) -> None:
        self._log, self._letters, self._decoder, self._clock = log, letters, decoder, clock

    def recover(
        self, wanted: Wanted, patch: Patch | None = None, *, dry_run: bool = False
    ) -> RecoveryReport:
        """Recover the letters that are wanted and good now, in the order in which they came.

        An event's time is compared with when it was refused first, not with today, and put right
        by when its body was sent, if that was said.

        Args:
            dry_run: only say what would happen.

        Raises:
            EventLogError: the event log takes nothing now; the same call goes on later.
        """
        report = RecoveryReport()
        for batch in self._letters.read(wanted, newest_first=False):
            report.letters += batch.num_rows
            tables: list[Mapping[str, pa.Table]] = []
            good: list[_Candidate] = []
            candidates = self._candidates(batch, patch or Patch(), report)
            for _, run in itertools.groupby(candidates, key=lambda each: each.arrival):
                for decoded, fine in self._decode(list(run), report):
                    tables.append(decoded.tables)
                    good += fine
            self._send(tables, good, report, dry_run=dry_run)
        return report

    def _candidates(
        self, batch: pa.RecordBatch, patch: Patch, report: RecoveryReport
    ) -> list[_Candidate]:
        found = []
        for row in batch.select([each.name for each in fields(_Candidate)]).to_pylist():
            letter = _Candidate(**row)
            try:
                changed = patch.apply(letter.body or b"", letter.letter_id)
            except ContractError as error:
                report.refuse(letter.letter_id, error.message)
            else:
                found.append(replace(letter, body=changed))
        return found

    def _decode(
        self, run: Sequence[_Candidate], report: RecoveryReport
    ) -> "Iterator[tuple[Decoded, list[_Candidate]]]":
        """Events of one arrival: tables of those good now, and their letters."""
        received, sent_at = run[0].arrival
        body = b"[" + b",".join(candidate.body or b"" for candidate in run) + b"]"
        try:
            decoded = self._decoder.array(body, received=received, sent_at=sent_at)
        except ContractError as error:
            if len(run) == 1:
                report.refuse(run[0].letter_id, error.message)
                return
            for candidate in run:
                yield from self._decode([candidate], report)
            return
        bad = {refused.index: refused.reason for refused in decoded.rejected}
        for place, reason in bad.items():
            report.refuse(run[place].letter_id, reason)
        yield decoded, [each for place, each in enumerate(run) if place not in bad]

    def _send(
        self,
        tables: Sequence[Mapping[str, pa.Table]],
        good: Sequence[_Candidate],
        report: RecoveryReport,
        *,
        dry_run: bool,
    ) -> None:
        for topic in dict.fromkeys(name for one in tables for name in one):
            events = pa.concat_tables([one[topic] for one in tables if topic in one])
            if not dry_run:
                self._log.append(topic, events, key=TOPICS[topic].partition_key)
            report.recovered[topic] += events.num_rows
        if good and not dry_run:
            self._mark(good)

    def _mark(self, good: Sequence[_Candidate]) -> None:
        """Note that letters are recovered; a mark that is made twice is a repeat of itself."""
        now = self._clock.now()
        marks = [
            {
                "event_id": f"{each.letter_id}-{RECOVERED}",
                "event_type": RECOVERED,
                "event_time": now,
                "letter_id": each.letter_id,
                "topic": each.topic,
                "reason": each.reason,
                "index": each.index,
            }
            for each in good
        ]
        table = pa.Table.from_pylist(marks, schema=self._log.schema(TOPIC))
        self._log.append(TOPIC, table, key=TOPICS[TOPIC].partition_key)


def _as_json(text: str) -> bytes:
    try:
        msgspec.json.decode(text.encode())
    except _DECODE_ERRORS:
        return msgspec.json.encode(text)
    return text.strip().encode()
