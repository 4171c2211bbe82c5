"""One aiohttp application for everything: authentication, faults, routing by path, errors as Status objects."""

import asyncio
import logging
from collections.abc import Callable

from aiohttp import web

from finetune_local.apiserver.audit import AuditEvent
from finetune_local.apiserver.auth.authorization import Attributes, access_denied, is_allowed
from finetune_local.apiserver.auth.impersonation import impersonated
from finetune_local.apiserver.cluster import Cluster
from finetune_local.apiserver.http import discovery, resource_handlers, subresource_handlers
from finetune_local.apiserver.http.calls import Call
from finetune_local.apiserver.http.openapi import OpenApi
from finetune_local.apiserver.http.parameters import flag
from finetune_local.apiserver.http.request_info import RequestInfo, parse_path, request_verb
from finetune_local.apiserver.http.responses import error_response, json_response
from finetune_local.apiserver.request_options import ADMIN, User
from finetune_local.apiserver.status_error import StatusError, method_not_allowed, no_such_path, too_many_requests

log = logging.getLogger(__name__)
READS = ("GET", "HEAD", "OPTIONS")
Authenticate = Callable[[web.Request], User]


class Application:
    """Answers every request; `authenticate` raises Unauthorized, or names the user."""

    def __init__(self, cluster: Cluster, authenticate: Authenticate | None = None) -> None:
        self._cluster = cluster
        self._authenticate = authenticate or (lambda _request: ADMIN)
        self._openapi = OpenApi(cluster)

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
        await self._inflict_faults(request)
        path = request.path
        if path.startswith(discovery.HEALTH):
            return web.Response(text="ok")
        if path == "/version":
            return json_response(discovery.VERSION)
        user = impersonated(self._cluster.store, self._authenticate(request), request.headers)
        info = parse_path(path)
        if info is None or not info.resource:
            return await self._discover(request)
        response = await self._serve(request, info, user)
        lose = self._cluster.faults.lose_answer
        if lose and request.method not in READS and (error := lose(request.method, request.path)):
            raise error
        return response

    async def _inflict_faults(self, request: web.Request) -> None:
        faults = self._cluster.faults
        await faults.thawed.wait()
        if faults.refuse and (error := faults.refuse(request.method, request.path)):
            raise error
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
        if request.path.startswith("/openapi/"):
            document = self._openapi.get(request.path.rstrip("/"))
            if document is None:
                raise no_such_path()
            return json_response(document)
        body = discovery.document(self._cluster, request)
        if body is None:
            raise no_such_path()
        return json_response(body)

    async def _serve(self, request: web.Request, info: RequestInfo, user: User) -> web.StreamResponse:
        resource = self._cluster.resource(info.group, info.version, info.resource)
        counts = self._cluster.faults.requests
        key = f"{request.method} {info.resource}" + (f"/{info.subresource}" if info.subresource else "")
        counts[key] = counts.get(key, 0) + 1
        call = Call(self._cluster, request, info, resource, user)
        self._authorize(call)
        chosen = subresource_handlers if info.subresource not in ("", "status") else resource_handlers
        handler = chosen.choose(call)
        if handler is None:
            raise method_not_allowed()
        if request.method in READS or not self._cluster.audit:
            return await handler(call)
        try:
            response = await handler(call)
        except StatusError as error:
            self._record(call, error.code)
            raise
        self._record(call, response.status)
        return response

    def _record(self, call: Call, code: int) -> None:
        """For the audit log."""
        info, request = call.info, call.request
        event = AuditEvent(
            revision=self._cluster.store.revision,
            user=call.user.name,
            user_agent=request.headers.get("User-Agent", ""),
            field_manager=request.query.get("fieldManager", ""),
            verb=request_verb(request.method, info, watch=False),
            group=info.group,
            resource=info.resource,
            subresource=info.subresource,
            namespace=info.namespace,
            name=info.name,
            code=code,
        )
        for sink in self._cluster.audit:
            sink(event)

    def _authorize(self, call: Call) -> None:
        """RBAC; raises Forbidden."""
        info, request = call.info, call.request
        wanted = Attributes(
            verb=request_verb(request.method, info, flag(request.query, "watch")),
            group=info.group,
            resource=info.resource,
            subresource=info.subresource,
            namespace=info.namespace,
            name=info.name,
        )
        allowed, _ = is_allowed(self._cluster.store, call.user, wanted)
        if not allowed:
            raise access_denied(call.user, wanted)
