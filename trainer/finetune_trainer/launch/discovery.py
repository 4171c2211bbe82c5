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
    return _wait(
        lambda: _lookup(host),
        f"{host} to resolve",
        f"PET_MASTER_ADDR: {host} did not resolve",
        "is pod 0 running, and does its headless Service publish addresses that are not ready?",
        *(timeout, stopped, pause),
    )


def wait_until_listening(
    host: str, port: int, timeout: float, stopped: Callable[[], bool], pause: Callable[[float], object] = time.sleep
) -> bool:
    """Wait until a port of pod 0 takes connections; False when `stopped` said so meanwhile.

    Raises:
        TrainerError: It did not within `timeout` seconds.
    """
    return _wait(
        lambda: _connect(host, port),
        f"{host}:{port} to take connections",
        f"PET_MASTER_PORT: {host}:{port} took no connection",
        "has pod 0 started, and may the pods of the gang speak to each other?",
        *(timeout, stopped, pause),
    )


def _wait(
    attempt: Callable[[], OSError | None],
    what: str,
    failure: str,
    hint: str,
    timeout: float,
    stopped: Callable[[], bool],
    pause: Callable[[float], object],
) -> bool:
    deadline = time.monotonic() + timeout
    said = False
    while not stopped():
        error = attempt()
        if error is None:
            return True
        if not said:
            log.info("waiting for %s (%s)", what, error)
            said = True
        if time.monotonic() >= deadline:
            raise TrainerError(f"{failure} within {timeout:g} s ({error}); {hint}")
        pause(POLL_SECONDS)
    return False


def _connect(host: str, port: int) -> OSError | None:
    try:
        socket.create_connection((host, port), timeout=5.0).close()
    except OSError as error:
        return error
    return None


def _lookup(host: str) -> OSError | None:
    try:
        socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        return error
    return None
