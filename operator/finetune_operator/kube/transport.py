"""Requests to the API server: bounded in time, retried only where the server asks for it, counted."""

import asyncio
import copy
import random
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Self
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
from kubernetes.aio.client.rest import RESTClientObject
from yarl import URL

from finetune_operator.kube.credentials import Credentials
from finetune_operator.kube.errors import ApiError, Object, error_from_status
from finetune_operator.kube.metrics import REQUEST_DURATION, REQUEST_RETRIES, REQUESTS

RETRY_STATUS = (429, 503)
JSON = "application/json"


class Transport:
    """One pool of connections to one API server.

    429 and 503 with Retry-After are sent again after that pause, `attempts` times at most: the server has not
    acted on such a request. Anything else is the caller's: it reconciles from fresh state.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        connections: int,
        timeout: float = 30.0,
        attempts: int = 4,
        max_pause: float = 10.0,
        user_agent: str = "finetune-operator",
    ) -> None:
        self._credentials = credentials
        configuration = credentials.configuration
        configuration.connection_pool_maxsize = connections
        # aiohttp's trust_env looks for proxies and a netrc in a thread, twice a request: four times the CPU of all
        # the rest. The proxy is looked up once, here.
        configuration.client_session_kwargs = {
            "trust_env": False,
            "cookie_jar": aiohttp.DummyCookieJar(),
            "trace_configs": [fencing()],
        }
        # Private, but the one place where the package turns its configuration into TLS, proxy and pool settings;
        # its public request() encodes bodies with the standard library and costs twice the CPU.
        self._session: aiohttp.ClientSession = RESTClientObject(credentials.configuration)._create_pool_manager()
        self._base = credentials.host.rstrip("/")
        self._host = urlsplit(self._base).netloc
        self._attempts = attempts
        self._max_pause = max_pause
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._fence: Callable[[], None] | None = None
        self._headers = {"User-Agent": user_agent}
        self._options: dict[str, Any] = {"allow_redirects": False}
        if proxy := configuration.proxy or proxy_from_environment(self._base):
            self._options["proxy"] = proxy
        if configuration.tls_server_name:
            self._options["server_hostname"] = configuration.tls_server_name

    def fenced(self, check: Callable[[], None]) -> Self:
        """The same connections; `check` may raise before a write is sent, also before it is sent again."""
        twin = copy.copy(self)
        twin._fence = check
        return twin

    async def close(self) -> None:
        await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Object:
        """The decoded answer; raises ApiError for any code but 2xx and for every network failure."""
        data = None if body is None else orjson.dumps(body)
        attempt = 1
        while True:
            started = time.perf_counter()
            try:
                response = await self.send(method, path, params, data, content_type, self._timeout, accept)
                async with response:
                    raw = await response.read()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if self._fence and method != "GET":
                    self._fence()  # aiohttp wraps what it raised before the body
                raise self.unreachable(method, path, error) from error
            REQUEST_DURATION.labels(method, self._host).observe(time.perf_counter() - started)
            if response.status < 300:
                return decode(raw, method, path)
            failure = failure_of(response, raw)
            if not self._may_retry(failure, attempt):
                raise failure
            REQUEST_RETRIES.labels(str(failure.status), method, self._host).inc()
            await asyncio.sleep(self._pause(failure))
            attempt += 1

    async def send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        data: bytes | None,
        content_type: str,
        timeout: aiohttp.ClientTimeout,
        accept: str = JSON,
    ) -> aiohttp.ClientResponse:
        """One request with its headers; a 401 is tried once more when the token has been rotated meanwhile."""
        url = URL(f"{self._base}{path}?{urlencode(params)}" if params else self._base + path, encoded=True)
        token = await self._credentials.authorization()
        while True:
            headers = self._headers | {"Accept": accept}
            if token:
                headers["Authorization"] = token
            if data is not None:
                headers["Content-Type"] = content_type
            fence = self._fence if method != "GET" else None
            response = await self._session.request(
                method, url, data=data, headers=headers, timeout=timeout, trace_request_ctx=fence, **self._options
            )
            REQUESTS.labels(str(response.status), method, self._host).inc()
            if response.status != 401 or token is None or not await self._credentials.refresh(token):
                return response
            response.release()
            token = await self._credentials.authorization()

    def unreachable(self, method: str, path: str, error: BaseException) -> ApiError:
        """The error of a request that got no (whole) answer; counted under code `<error>`, as client-go does."""
        REQUESTS.labels("<error>", method, self._host).inc()
        detail = str(error) or type(error).__name__
        return ApiError(0, "Unreachable", f"{method} {self._base}{path}: {detail}")

    def _may_retry(self, failure: ApiError, attempt: int) -> bool:
        asked = failure.status in RETRY_STATUS and failure.retry_after is not None
        return asked and attempt < self._attempts and (failure.retry_after or 0) <= self._max_pause

    def _pause(self, failure: ApiError) -> float:
        """At least what the server asked for, with up to a tenth more so that clients do not return as one."""
        return (failure.retry_after or 0.0) * (1 + random.random() / 10)


def fencing() -> aiohttp.TraceConfig:
    """Calls a request's fence when its connection stands, and last before its bytes are written.

    A process may be frozen while it connects, and for longer than its lease lasts. Up to Python 3.11 headers wait in
    aiohttp for the task that writes the body, a turn of the event loop later.
    """

    async def check(_: aiohttp.ClientSession, context: SimpleNamespace, *__: object) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx()

    tracing = aiohttp.TraceConfig()
    for signal in (tracing.on_request_headers_sent, tracing.on_request_chunk_sent):
        signal.append(check)  # by their names late, but aiohttp calls them before it writes
    return tracing


def proxy_from_environment(url: str) -> str | None:
    """HTTPS_PROXY, HTTP_PROXY and NO_PROXY, as client-go honours them."""
    parts = urlsplit(url)
    if parts.hostname is None or proxy_bypass(parts.hostname):
        return None
    return getproxies().get(parts.scheme)


def decode(raw: bytes, method: str, path: str) -> Object:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ApiError(0, "Unreadable", f"{method} {path}: the answer is not JSON: {error}") from error
    return body if isinstance(body, dict) else {"value": body}


def failure_of(response: aiohttp.ClientResponse, raw: bytes) -> ApiError:
    """ApiError of an answer that is no success: a Status object, or a proxy's page of text."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = None
    text = raw.decode(errors="replace")
    pause = response.headers.get("Retry-After")
    retry_after = float(pause) if pause and pause.isdecimal() else None
    return error_from_status(response.status, body if isinstance(body, dict) else {}, text, retry_after)
