"""What protects the server from its clients: size, time and concurrency limits, and noticing that they left."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finetune_serving.error_responses import error_response
from finetune_serving.errors import RequestError
from finetune_serving.lifecycle import Lifecycle
from finetune_serving.metrics import Metrics
from finetune_serving.settings import Limits

log = logging.getLogger(__name__)

PROBES = ("/v2/health/live", "/v2/health/ready", "/metrics")
"""Never refused: a busy server is alive."""
LINGER_SECONDS = 2.0
LINGER_FACTOR = 8
"""How much of a refused body is read and thrown away, in multiples of the limit."""


class RequestLimits:
    """ASGI middleware around everything that is not a probe.

    429 above `max_concurrency`; 413 above `max_request_bytes`; 408 when the body does not come, 504 when the
    answer does not begin within `request_timeout`. A client that goes away cancels the work done for it.
    """

    def __init__(self, app: ASGIApp, limits: Limits, lifecycle: Lifecycle, metrics: Metrics) -> None:
        self.app = app
        self.limits = limits
        self.lifecycle = lifecycle
        self.metrics = metrics
        self.active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, self.limits.max_request_bytes, lambda: self.lifecycle.draining)
        if scope["path"] in PROBES:
            await self.app(scope, receive, exchange.send)
        elif self.active >= self.limits.max_concurrency:
            await exchange.refuse(
                RequestError(429, "overloaded", f"{self.active} requests are in progress; try again", retry_after=1)
            )
        else:
            await self._admit(scope, exchange)

    async def _admit(self, scope: Scope, exchange: "Exchange") -> None:
        self.active += 1
        self.metrics.in_flight.inc()
        try:
            exchange.check_declared_size()
            await self._bounded(scope, exchange)
        except RequestError as error:
            await exchange.refuse(error)
        finally:
            self.active -= 1
            self.metrics.in_flight.dec()

    async def _bounded(self, scope: Scope, exchange: "Exchange") -> None:
        """Run the application until it ends, its time is up or its client is gone."""
        work = asyncio.ensure_future(self.app(scope, exchange.receive, exchange.send))
        gone = asyncio.ensure_future(exchange.client_gone())
        overdue = asyncio.ensure_future(self._overdue(exchange))
        tasks: set[asyncio.Future[None]] = {work, gone, overdue, exchange.overflow}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in (exchange.overflow, work, overdue):
                if task.done():
                    task.result()
                    break
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _overdue(self, exchange: "Exchange") -> None:
        """Raise when no answer began in time; once it began, streams bound themselves."""
        seconds = self.limits.request_timeout
        await asyncio.sleep(seconds)
        if exchange.started:
            await asyncio.Event().wait()
        if not exchange.body_complete.is_set():
            raise RequestError(408, "body_timeout", f"the request's body did not arrive within {seconds:g} s")
        raise RequestError(504, "timeout", f"no answer within {seconds:g} s; ask for less or try again")


class Exchange:
    """One request and its answer, seen from outside the application."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        max_bytes: int,
        closing: Callable[[], bool],
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._max_bytes = max_bytes
        self._closing = closing
        self._received = 0
        self._disconnected = asyncio.Event()
        self.body_complete = asyncio.Event()
        self.overflow: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.started = False

    def check_declared_size(self) -> None:
        """413 by Content-Length, before a byte of the body is read."""
        declared = dict(self._scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_bytes:
            raise self._too_large(int(declared))

    async def receive(self) -> Message:
        if self.body_complete.is_set():
            await self._disconnected.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._disconnected.set()
            return message
        self._received += len(message.get("body", b""))
        if self._received > self._max_bytes:
            # Raised outside: an application may take an error of its body for bad JSON.
            self.overflow.set_exception(self._too_large(self._received))
            await asyncio.Event().wait()
        if not message.get("more_body", False):
            self.body_complete.set()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            if self._closing():
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
        await self._send(message)

    async def client_gone(self) -> None:
        """Return when the client has closed the connection; only then, once the body is read."""
        await self.body_complete.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._disconnected.set()

    async def refuse(self, error: RequestError) -> None:
        """Answer with `error`, unless an answer has begun."""
        if self.started:
            log.warning("%s: %s, after the answer had begun", self._scope["path"], error.message)
            return
        response = error_response(self._scope["path"], error)
        if self.body_complete.is_set():
            await response(self._scope, self._receive, self.send)
            return
        # The connection cannot carry another request.
        response.headers["connection"] = "close"
        await response(self._scope, self._receive, self._send_and_linger)

    async def _send_and_linger(self, message: Message) -> None:
        """End the answer only when the client has stopped sending.

        Closing a connection with unread data resets it, and the reset may overtake the answer (nginx:
        `lingering_close`).
        """
        if message["type"] != "http.response.body":
            await self.send(message)
            return
        await self.send({**message, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await self._discard_body()
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _discard_body(self) -> None:
        more = True
        while more and self._received < LINGER_FACTOR * self._max_bytes:
            message = await self._receive()
            self._received += len(message.get("body", b""))
            more = message["type"] == "http.request" and message.get("more_body", False)

    def _too_large(self, size: int) -> RequestError:
        return RequestError(
            413,
            "request_too_large",
            f"the body has {size} bytes or more, the limit is {self._max_bytes}; send fewer or shorter texts",
        )
