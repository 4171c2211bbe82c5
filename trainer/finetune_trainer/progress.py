"""Progress of a run, posted to the operator without ever getting in the way of the training.

The loop sets the newest state; a daemon thread sends it. Whatever is overtaken before it was sent is dropped, and a
receiver that is slow, away or angry costs the training nothing.
"""

import http.client
import json
import logging
import os
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from finetune_api import names
from finetune_api.reports import MAX_REPORT_BYTES, ProgressReport

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 1.0
TIMEOUT_SECONDS = 5.0
FLUSH_SECONDS = 5.0
BACKOFF_LIMIT_SECONDS = 30.0
LONGEST_WORDS = 300
"""Of the receiver's, in the log."""


@dataclass
class Receiver:
    """Where reports go and how we prove who we are. One connection serves many reports: a TLS handshake is dear."""

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None
    _open: http.client.HTTPConnection | None = field(default=None, compare=False, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Receiver | None":
        """The receiver that the operator names in the pod's environment, or None."""
        url = environment.get(names.ENV_PROGRESS_URL)
        if not url:
            return None
        token, authority = (
            environment.get(names.ENV_PROGRESS_TOKEN_FILE),
            environment.get(names.ENV_PROGRESS_CA_FILE),
        )
        return cls(url, Path(token) if token else None, Path(authority) if authority else None)

    @property
    def host(self) -> str:
        """Name and port of the receiver."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    def post(self, body: bytes, timeout: float) -> tuple[int, str]:
        """Send one report and return the HTTP status and the receiver's words.

        The token is read anew each time: the kubelet rotates it.

        Raises:
            OSError, http.client.HTTPException, ValueError: It did not arrive.
        """
        headers = {"Content-Type": "application/json"}
        if self.token_file:
            headers["Authorization"] = f"Bearer {self.token_file.read_text().strip()}"
        if self._open is not None:
            try:
                return self._exchange(body, headers, timeout)
            except (ConnectionError, http.client.RemoteDisconnected, ssl.SSLEOFError, ssl.SSLZeroReturnError):
                log.debug("%s has closed an idle connection", self.host)
        return self._exchange(body, headers, timeout)

    def _exchange(self, body: bytes, headers: Mapping[str, str], timeout: float) -> tuple[int, str]:
        connection, self._open = self._open or self._connection(timeout), None
        kept = False
        try:
            connection.request("POST", urlsplit(self.url).path or "/", body, dict(headers))
            response = connection.getresponse()
            words = response.read(4096).decode(errors="replace")
            kept = response.isclosed() and not response.will_close
            return response.status, words
        finally:
            if kept:
                self._open = connection
            else:
                connection.close()

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        if parts.hostname is None:
            raise ValueError(f"{names.ENV_PROGRESS_URL} has no host: {self.url!r}")
        if parts.scheme != "https":
            return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
        context = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=context)


class Reporter:
    """Posts the newest `ProgressReport` at most once an interval, from a thread of its own. Never raises."""

    def __init__(
        self,
        receiver: Receiver | None,
        attempt: int = 1,
        interval: float = INTERVAL_SECONDS,
        timeout: float = TIMEOUT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._receiver = receiver
        self._interval = interval
        self._timeout = timeout
        self._clock = clock
        self._state = ProgressReport(attempt=attempt)
        self._changed = threading.Condition()
        self._pending = False
        self._closing = False
        self._failures = 0
        self._thread: threading.Thread | None = None

    @classmethod
    def silent(cls) -> "Reporter":
        """A reporter that nobody listens to."""
        return cls(None)

    @property
    def latest(self) -> ProgressReport:
        """The newest state, sent or not."""
        return self._state

    def update(self, **fields: object) -> None:
        """Set some fields of the report (Python names) and let it be sent; the others stay as they are.

        NaN and infinity, which JSON has no form for, become unset.
        """
        try:
            merged = self._state.model_dump() | {name: _finite(value) for name, value in fields.items()}
            state = ProgressReport.model_validate(merged)
        except ValueError as error:
            log.warning("a progress report was dropped: %s", error)
            return
        with self._changed:
            self._state = state
            self._pending = self._receiver is not None and not self._closing
            if self._pending and self._thread is None:
                self._thread = threading.Thread(target=self._send_changes, name="progress", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self, timeout: float = FLUSH_SECONDS) -> None:
        """Send what is pending, for at most `timeout` seconds, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)

    def _send_changes(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._closing)
                if not self._pending:
                    return
                state, self._pending = self._state, False
            started = self._clock()
            self._send(state)
            with self._changed:
                pause = self._pause() - (self._clock() - started)
                self._changed.wait_for(lambda: self._closing, timeout=max(0.0, pause))
                if self._closing and self._failures:
                    return

    def _send(self, state: ProgressReport) -> None:
        assert self._receiver is not None
        body = json.dumps(state.wire()).encode()
        if len(body) > MAX_REPORT_BYTES:
            log.warning("a progress report of %d bytes was dropped: the limit is %d", len(body), MAX_REPORT_BYTES)
            return
        try:
            status, words = self._receiver.post(body, self._timeout)
        except ssl.SSLCertVerificationError as error:  # before anything was sent, the token among it
            self._failed(f"{self._receiver.host} shows a certificate that is not trusted: {error.verify_message}")
            return
        except Exception as error:  # a report is never worth the run
            self._failed(f"{type(error).__name__}: {error}")
            return
        if status >= 400:
            self._failed(f"HTTP status {status}: {words[:LONGEST_WORDS]}")
            return
        if self._failures:
            log.info("progress reports arrive again after %d failures", self._failures)
        self._failures = 0

    def _failed(self, why: str) -> None:
        self._failures += 1
        if self._failures & (self._failures - 1) == 0:  # the 1st, 2nd, 4th, 8th …: a log is not a place to shout
            log.warning("progress report not delivered (%d in a row): %s", self._failures, why)
        with self._changed:
            self._pending = self._pending or not self._closing

    def _pause(self) -> float:
        return min(self._interval * 2 ** min(self._failures, 10), max(self._interval, BACKOFF_LIMIT_SECONDS))


def _finite(value: object) -> object:
    if isinstance(value, float) and value - value != 0:
        return None
    if isinstance(value, Mapping):
        return {key: item for key, item in value.items() if _finite(item) is not None}
    return value
