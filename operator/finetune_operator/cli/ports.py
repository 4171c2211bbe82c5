"""Free TCP ports of this machine."""

import random
import socket

LISTENED_ON = range(20_000, 32_768)
"""Below those that Linux gives to connections and to who asks for any port: nobody is given one by the way."""
TRIES = 100


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on at this moment.

    Raises:
        OSError: A hundred were tried, and all are taken.
    """
    for port in random.sample(LISTENED_ON, TRIES):
        with socket.socket() as listener:
            try:
                listener.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port on {host} among {TRIES} from {LISTENED_ON.start} to {LISTENED_ON.stop - 1}")
