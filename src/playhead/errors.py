"""Every error that Playhead raises on purpose.

PlayheadError
├── SettingError            a setting is missing or has a bad value
├── WorkspaceError          the folder is no workspace, or of a newer version
│   └── WorkspaceBusyError  another process holds the role (retryable)
├── KeyRingError            the keys' file is damaged, or has no such key
│   └── KeyRefusedError     a request's key is missing, unknown, revoked or lacks the scope
├── RequestRefusedError     a request over HTTP that is answered with an error status
├── ContractError           an event, field or file does not fit its contract
│   ├── UnknownTopicError   no topic or dimension of that name
│   └── BodyTooLargeError   a body holds more events than it may
├── ViewError               a view's text cannot be used
│   ├── UnknownViewError    no view of that name
│   ├── ViewSyntaxError     the text is no SQL, or names unknown columns
│   └── NotMergeableError   the text has a construct that partial states cannot carry
├── QueryError              a query is wrong, or is not read-only
│   ├── QueryTimeoutError   it took longer than it may, or was cancelled
│   └── QueryMemoryError    it needs more memory or scratch space than it may have
├── EngineError             an engine is unknown, or failed
├── EventLogError           the event log refused an operation
│   ├── OffsetOutOfRangeError  the offset was deleted by retention, or is not written yet
│   ├── LogFullError        no space left for the log (retryable)
│   ├── LogBusyError        another writer held the log for too long (retryable)
│   ├── LogAwayError        the log's servers do not answer (retryable)
│   └── CorruptBlockError   a stored block fails its checksum
├── LakeError               an Iceberg table refused an operation
│   ├── LakeAwayError       the object store or the catalog's database does not answer (retryable)
│   └── LakeConflictError   another writer committed first (retryable)
├── LoadError               a file cannot be loaded
├── ServerError             a server on this machine cannot be started, or needs what is missing
├── StateError              speed state cannot be written or read
└── CoverageError           batch and speed leave a gap, or overlap
"""


class PlayheadError(Exception):
    """Base of the tree: what happened, and what to do about it.

    Args:
        message: what happened, naming the place (file, line, view, topic, key).
        hint: what the user can do; printed on a line of its own.
    """

    retryable = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class SettingError(PlayheadError):
    """A setting is missing or has a value that cannot be used."""


class WorkspaceError(PlayheadError):
    """The folder is no workspace, or was written by a newer Playhead."""


class WorkspaceBusyError(WorkspaceError):
    """Another process holds this role in the workspace."""

    retryable = True


class KeyRingError(PlayheadError):
    """The file of keys is damaged or cannot be written, or has no such key."""


class KeyRefusedError(KeyRingError):
    """A request's key is missing, unknown, revoked, or lacks the scope; safe to show a client.

    Args:
        status: of HTTP: 401 (who is it?), 403 (may not), 503 (keys cannot be read now).
    """

    def __init__(self, message: str, *, status: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class RequestRefusedError(PlayheadError):
    """A request over HTTP is refused; the message is safe to show to its sender.

    Args:
        status: of HTTP, 400 to 599.
        retry_after_s: seconds after which the same request may be sent again; None: not at all,
            or whenever the sender likes.
        headers: to add to the answer.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        hint: str | None = None,
        retry_after_s: int | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.retry_after_s = retry_after_s
        self.headers = headers


class ContractError(PlayheadError):
    """An event, a field or a file does not fit its contract."""


class UnknownTopicError(ContractError):
    """No topic or dimension has this name."""


class BodyTooLargeError(ContractError):
    """A body holds more events than it may; nothing of it was taken."""


class ViewError(PlayheadError):
    """A view's text cannot be used."""


class UnknownViewError(ViewError):
    """No view has this name."""


class ViewSyntaxError(ViewError):
    """The text is no SQL query, or names relations or columns that do not exist."""


class NotMergeableError(ViewError):
    """The text has a construct whose partial results cannot be merged exactly."""


class QueryError(PlayheadError):
    """A query is wrong or is not read-only."""


class QueryTimeoutError(QueryError):
    """A query took longer than it may, or whoever asked has gone; it was ended."""


class QueryMemoryError(QueryError):
    """A query needs more memory, or more scratch space on disk, than it may have."""


class EngineError(PlayheadError):
    """An engine is unknown, is not installed, or failed."""


class EventLogError(PlayheadError):
    """The event log refused an operation."""


class OffsetOutOfRangeError(EventLogError):
    """The offset was deleted by retention or is not written yet."""


class LogFullError(EventLogError):
    """No space is left; nothing of the append was kept."""

    retryable = True


class LogBusyError(EventLogError):
    """Another writer did not let go of the log in time; nothing was kept."""

    retryable = True


class LogAwayError(EventLogError):
    """The log's servers do not answer, or too few of them; what was not told as kept may be."""

    retryable = True


class CorruptBlockError(EventLogError):
    """A stored block fails its checksum."""


class LakeError(PlayheadError):
    """An Iceberg table refused an operation."""


class LakeAwayError(LakeError):
    """The object store or the catalog's database does not answer; nothing is known to be lost."""

    retryable = True


class LakeConflictError(LakeError):
    """Another writer committed first; nothing of this commit was kept."""

    retryable = True


class LoadError(PlayheadError):
    """A file cannot be loaded."""


class ServerError(PlayheadError):
    """A server cannot be started on this machine, or what it needs is missing."""


class StateError(PlayheadError):
    """Speed state cannot be written or read."""


class CoverageError(PlayheadError):
    """The batch and speed layers leave a gap between them, or overlap."""
