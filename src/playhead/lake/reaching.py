"""Whether files cannot be used because they are damaged, or because their store is away."""

from playhead.errors import LakeAwayError, LakeError

__all__ = ["is_store_away", "unusable"]

# Arrow names the cause of a store's error in its text only.
_SIGNS = (
    "NETWORK_CONNECTION",
    "curlCode",
    "REQUEST_TIMEOUT",
    "SERVICE_UNAVAILABLE",
    "SLOW_DOWN",
    "INTERNAL_FAILURE",
    "HTTP status 50",
)


def is_store_away(error: BaseException) -> bool:
    """Whether an error says that the object store does not answer, or not now."""
    told = str(error)
    return isinstance(error, OSError) and any(sign in told for sign in _SIGNS)


def unusable(message: str, error: BaseException, hint: str | None = None) -> LakeError:
    """The error of files that cannot be read or written.

    Args:
        error: what has kept them from it.
        hint: what to do if it is not the store that is away.
    """
    if is_store_away(error):
        return LakeAwayError(
            message,
            hint="Does the object store run, and is it reachable from here? All goes on by itself "
            "when it is back.",
        )
    return LakeError(message, hint=hint)
