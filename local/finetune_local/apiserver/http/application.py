"""One aiohttp application for everything: authentication, faults, routing by path, errors as Status objects."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from finetune_local.apiserver.cluster import Cluster
from finetune_local.apiserver.http import discovery, resource_handlers
from finetune_local.apiserver.http.request_info import RequestInfo, parse_path
from finetune_local.apiserver.http.responses import error_response, json_response
from finetune_local.apiserver.request_options import ADMIN, User
from finetune_local.apiserver.status_error import StatusError, method_not_allowed, no_such_path, too_many_requests

log = logging.getLogger(__name__)
HEALTH = ("/healthz", "/livez", "/readyz")
Authenticate = Callable[[web.Request], User]


class Application:
    """Answers every request; `authenticate` raises Unauthorized, or names the user."""

    def __init__(self, cluster: Cluster, authenticate: Authenticate | None = None) -> None:
        self._cluster = cluster
        self._authenticate = authenticate or (lambda _request: ADMIN)
        self._thaw = asyncio.Event()

    def build(self) -> web.Application:
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self.handle)
        return app

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._respond(request)
        except StatusError as error:
            return error_response(error)
        except (ConnectionResetError, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("%s %s failed", request.method, request.path_qs)
            return error_response(StatusError(500, "InternalError", "Internal error occurred: see the server's log"))

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        await self._inflict_faults()
        path = request.path
        if path.split("/")[1] in ("healthz", "livez", "readyz"):
            return web.Response(text="ok")
        if path == "/version":
            return json_response(discovery.VERSION)
        user = self._authenticate(request)
        info = parse_path(path)
        if info is None or not info.resource:
            return await self._discover(request)
        return await self._serve(request, info, user)

    async def _inflict_faults(self) -> None:
        faults = self._cluster.faults
        while faults.frozen:
            await asyncio.sleep(0.05)
        if faults.throttle_retry_after is not None:
            raise too_many_requests(faults.throttle_retry_after)
        if faults.throttle_next > 0:
            faults.throttle_next -= 1
            raise too_many_requests(1)
        if faults.delay_seconds:
            await asyncio.sleep(faults.delay_seconds)

    async def _discover(self, request: web.Request) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed()
        body = discovery.document(self._cluster, request)
        if body is None:
            raise no_such_path()
        return json_response(body)

    async def _serve(self, request: web.Request, info: RequestInfo, user: User) -> web.StreamResponse:
        resource = self._cluster.resource(info.group, info.version, info.resource)
        counts = self._cluster.faults.requests
        key = f"{request.method} {info.resource}" + (f"/{info.subresource}" if info.subresource else "")
        counts[key] = counts.get(key, 0) + 1
        call = resource_handlers.Call(self._cluster, request, info, resource, user)
        handler: Callable[[resource_handlers.Call], Awaitable[web.StreamResponse]] | None
        handler = resource_handlers.choose(info, resource, request.method)
        if handler is None:
            raise method_not_allowed()
        return await handler(call)
