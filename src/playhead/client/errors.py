"""Every error of a producer.

ProducerError
├── EventError              the event is too large, or has no form in JSON; it was not taken
├── ProducerFullError       no room for the event until some are delivered; it was not taken
├── ProducerClosedError     the producer is closed, or of another process
├── ProducerRefusedError    the gateway refuses whole requests; events stay where they are
├── FlushTimeoutError       not everything was delivered in time; events stay where they are
└── SpoolError              the spool's folder is in use, damaged or cannot be written
"""


class ProducerError(Exception):
    """Base of the tree: what happened, and what to do about it.

    Args:
        message: what happened, naming the place.
        hint: what the user can do; printed on a line of its own.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class EventError(ProducerError):
    """An event cannot be written as JSON, or never fits."""


class ProducerFullError(ProducerError):
    """There is no room for another event."""


class ProducerClosedError(ProducerError):
    """The producer is closed, or was made by the process that this one was forked from."""


class ProducerRefusedError(ProducerError):
    """The gateway refuses whole requests, so that sending again as it is would not help.

    Args:
        status: of HTTP, such as 401 for a wrong key.
    """

    def __init__(self, message: str, *, status: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class FlushTimeoutError(ProducerError, TimeoutError):
    """Not everything was delivered in the time given."""


class SpoolError(ProducerError):
    """The spool cannot be used."""
