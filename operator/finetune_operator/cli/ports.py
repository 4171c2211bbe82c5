"""Free TCP ports of this machine."""

import random
import socket

LOOPBACK = "127.0.0.1"
LISTENED_ON = range(20_000, 30_000)
"""Below Kubernetes' node ports and those that Linux gives to connections: nobody else is given one by the way."""
TRIES = 100
DRAW = random.SystemRandom()
"""Processes that were seeded alike would try the same ports."""


def free_port(host: str = LOOPBACK) -> int:
    """A port that nobody listens on at this moment.

    Raises:
        OSError: A hundred were tried, and all are taken.
    """
    for port in DRAW.sample(LISTENED_ON, TRIES):
        with socket.socket() as listener:
            try:
                listener.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port on {host} among {TRIES} from {LISTENED_ON.start} to {LISTENED_ON.stop - 1}")
