"""Tells systemd how far the start is (sd_notify(3)); says nothing where nobody listens."""

import logging
import os
import socket

logger = logging.getLogger(__name__)

VARIABLE = "NOTIFY_SOCKET"


def notify(*lines: str) -> bool:
    """Send states such as "READY=1" or "STATUS=..."; False if nobody took them."""
    name = os.environ.get(VARIABLE, "")
    if not name.startswith(("/", "@")):
        return False
    where = "\0" + name[1:] if name.startswith("@") else name
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto("\n".join(lines).encode(), where)
    except OSError as error:
        logger.debug("%s %s: %s", VARIABLE, name, error)
        return False
    return True
