"""Waiting for the name of pod 0: a headless Service answers for a new pod only seconds after it started."""

import logging
import socket
import time
from collections.abc import Callable

from finetune_trainer.errors import TrainerError

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5


def wait_until_resolvable(
    host: str, timeout: float, stopped: Callable[[], bool], pause: Callable[[float], object] = time.sleep
) -> bool:
    """Wait until a host name resolves; False when `stopped` said so meanwhile. `pause` may return early.

    Raises:
        TrainerError: It did not within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    said = False
    while not stopped():
        error = _lookup(host)
        if error is None:
            return True
        if not said:
            log.info("waiting for %s to resolve (%s)", host, error)
            said = True
        if time.monotonic() >= deadline:
            raise TrainerError(
                f"PET_MASTER_ADDR: {host} did not resolve within {timeout:g} s ({error}); "
                "is pod 0 running, and does its headless Service publish addresses that are not ready?"
            )
        pause(POLL_SECONDS)
    return False


def _lookup(host: str) -> OSError | None:
    try:
        socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        return error
    return None
