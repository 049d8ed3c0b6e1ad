"""What an event is: one Avro schema per topic and dimension, and all that follows from it."""

from playhead.contracts.base import LOG_COLUMNS, Contract, Field
from playhead.contracts.conform import check
from playhead.contracts.encode import to_json_lines
from playhead.contracts.event_time import event_time_of, event_time_sql
from playhead.contracts.registry import DIMENSIONS, FILES, TOPICS, contract
from playhead.contracts.validate import Rejected, Validator

__all__ = [
    "DIMENSIONS",
    "FILES",
    "LOG_COLUMNS",
    "TOPICS",
    "Contract",
    "Field",
    "Rejected",
    "Validator",
    "check",
    "contract",
    "event_time_of",
    "event_time_sql",
    "to_json_lines",
]
