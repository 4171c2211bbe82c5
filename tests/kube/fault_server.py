"""A small API server over real HTTP that can be told to misbehave: the faults that clusters show."""

import asyncio
import json
import re
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Object = dict[str, Any]
PATH = re.compile(
    r"^/apis?/(?:[^/]+/)?v[^/]+(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?$"
)
BODY = web.RequestKey("body", dict)
PATIENCE_SECONDS = 30.0
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Seen:
    method: str
    path: str
    query: dict[str, str]
    authorization: str | None
    body: Any = None

    @property
    def watch(self) -> bool:
        return self.query.get("watch") == "true"


@dataclass
class Collection:
    items: dict[tuple[str, str], Object] = field(default_factory=dict)
    history: list[tuple[int, str, Object]] = field(default_factory=list)
    compacted: int = 0


def status(code: int, reason: str, message: str = "", **headers: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
    return web.json_response(body | {"message": message or reason}, status=code, headers=headers)


class FaultServer:
    """List, watch, get, create, PUT with compare-and-swap, merge patch of one level, delete; and faults."""

    def __init__(self) -> None:
        self.collections: dict[str, Collection] = defaultdict(Collection)
        self.version = 100
        self.seen: list[Seen] = []
        self.scripted: dict[str, deque[Answer]] = defaultdict(deque)
        self.frozen = asyncio.Event()
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.silent = False
        self.changed = asyncio.Condition()
        self.requested = asyncio.Condition()
        self.port = 0
        self.accepted_tokens: set[str] | None = None
        self._runner: web.AppRunner | None = None

    # --- life

    async def start(self) -> None:
        app = web.Application(middlewares=[self._faults], client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._route)
        self._runner = web.AppRunner(app, shutdown_timeout=0.01, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """The process is gone: connections cut, port closed. `start` brings it back with its objects."""
        self.thawed.set()
        if self._runner:
            self.cut()
            await self._runner.cleanup()
            self._runner = None

    def cut(self) -> None:
        """Every open connection breaks, as when a load balancer restarts."""
        assert self._runner
        assert self._runner.server
        for connection in list(self._runner.server.connections):
            if connection.transport is not None:
                connection.transport.abort()

    def freeze(self) -> None:
        """Connections stay open and nothing is answered (SIGSTOP, a dead node behind a load balancer)."""
        self.thawed.clear()

    def thaw(self) -> None:
        self.thawed.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # --- scripting

    def script(self, what: str, *answers: Answer) -> None:
        """The next requests of this sort (`list`, `watch`, or an HTTP method) get these answers instead."""
        self.scripted[what].extend(answers)

    async def losing_the_answer(self, request: web.Request) -> web.StreamResponse:
        """To be scripted: the request takes effect, and the client is told that it did not."""
        await self._route(request)
        return status(500, "InternalError", "etcdserver: request timed out")

    def count(self, what: str) -> int:
        return sum(1 for seen in self.seen if _sort_of(seen) == what)

    async def until_seen(self, what: str, times: int, seconds: float = PATIENCE_SECONDS) -> None:
        """Until so many requests of this sort have come in all; fails with those that came when they don't."""
        try:
            async with asyncio.timeout(seconds), self.requested:
                await self.requested.wait_for(lambda: self.count(what) >= times)
        except TimeoutError:
            came = ", ".join(f"{sort} {count}" for sort, count in Counter(map(_sort_of, self.seen)).items())
            raise AssertionError(
                f"{what} {times}: did not come within {seconds:g} s; requests: {came or 'none'}"
            ) from None

    # --- objects, from the test's side

    async def put(self, plural: str, name: str, namespace: str = "d", **fields: Any) -> Object:
        collection = self.collections[plural]
        old = collection.items.get((namespace, name))
        item = {"apiVersion": "v1", "kind": "Thing", **(old or {}), **fields}
        metadata = {"uid": f"uid-{self.version + 1}", **(old or {}).get("metadata", {}), **fields.get("metadata", {})}
        item["metadata"] = metadata | {"name": name, "namespace": namespace}
        return await self._commit(plural, "MODIFIED" if old else "ADDED", item)

    async def remove(self, plural: str, name: str, namespace: str = "d") -> None:
        await self._commit(plural, "DELETED", self.collections[plural].items[namespace, name])

    def compact(self, plural: str) -> None:
        """Forgets the history: watches from before get 410."""
        self.collections[plural].compacted = self.version
        self.collections[plural].history.clear()

    async def bookmark(self, plural: str) -> int:
        """Moves the version on without a change of this kind, and tells the watchers so."""
        self.version += 1
        item = {"kind": "Thing", "apiVersion": "v1", "metadata": {"resourceVersion": str(self.version)}}
        self.collections[plural].history.append((self.version, "BOOKMARK", item))
        async with self.changed:
            self.changed.notify_all()
        return self.version

    async def _commit(self, plural: str, kind: str, item: Object) -> Object:
        self.version += 1
        item = json.loads(json.dumps(item))
        item["metadata"]["resourceVersion"] = str(self.version)
        collection = self.collections[plural]
        key = (item["metadata"].get("namespace", ""), item["metadata"]["name"])
        if kind == "DELETED":
            del collection.items[key]
        else:
            collection.items[key] = item
        collection.history.append((self.version, kind, item))
        async with self.changed:
            self.changed.notify_all()
        return item

    # --- serving

    @web.middleware
    async def _faults(self, request: web.Request, handler: Any) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        seen = Seen(request.method, request.path, dict(request.query), request.headers.get("Authorization"), body)
        request[BODY] = body or {}
        self.seen.append(seen)
        async with self.requested:
            self.requested.notify_all()
        await self.thawed.wait()
        if self.accepted_tokens is not None and seen.authorization not in self.accepted_tokens:
            return status(401, "Unauthorized")
        if script := self.scripted[_sort_of(seen)]:
            return await script.popleft()(request)
        return await handler(request)

    async def _route(self, request: web.Request) -> web.StreamResponse:
        match = PATH.match(request.path)
        if not match:
            return status(404, "NotFound", request.path)
        namespace, plural, name = match["namespace"], match["plural"], match["name"]
        if request.query.get("watch") == "true":
            return await self._watch(request, plural)
        if name is None and request.method == "GET":
            return self._list(request, plural, namespace)
        return await self._object(request, plural, namespace or "", name)

    def _list(self, request: web.Request, plural: str, namespace: str | None) -> web.Response:
        items = [i for key, i in sorted(self.collections[plural].items.items()) if namespace in (None, key[0])]
        start, limit = int(request.query.get("continue", 0)), int(request.query.get("limit", 0)) or len(items)
        rest = len(items) > start + limit
        metadata = {"resourceVersion": str(self.version)} | ({"continue": str(start + limit)} if rest else {})
        page = [{k: v for k, v in i.items() if k not in ("apiVersion", "kind")} for i in items[start : start + limit]]
        return web.json_response({"kind": "ThingList", "apiVersion": "v1", "metadata": metadata, "items": page})

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        collection, sent = self.collections[plural], int(request.query["resourceVersion"])
        if sent < collection.compacted:
            return status(410, "Expired", f"too old resource version: {sent}")
        stream = web.StreamResponse()
        await stream.prepare(request)
        deadline = asyncio.get_running_loop().time() + int(request.query["timeoutSeconds"])
        while (rest := deadline - asyncio.get_running_loop().time()) > 0:
            for version, kind, item in [entry for entry in collection.history if entry[0] > sent]:
                sent = version
                if not self.silent:
                    await stream.write(event(kind, item))
            try:
                async with asyncio.timeout(rest), self.changed:
                    await self.changed.wait()
            except TimeoutError:
                break
        return stream

    async def _object(self, request: web.Request, plural: str, namespace: str, name: str | None) -> web.Response:
        collection = self.collections[plural]
        body = dict(request[BODY])
        key = (namespace, name or body.get("metadata", {}).get("name", ""))
        old = collection.items.get(key)
        if request.method == "POST":
            if old:
                return status(409, "AlreadyExists")
            body["metadata"] = {"namespace": namespace, "uid": f"uid-{self.version}"} | body["metadata"]
            return web.json_response(await self._commit(plural, "ADDED", body), status=201)
        if old is None:
            return status(404, "NotFound")
        if request.method == "GET":
            return web.json_response(old)
        if request.method == "DELETE":
            await self._commit(plural, "DELETED", old)
            return web.json_response({"kind": "Status", "status": "Success"})
        wanted = body.get("metadata", {}).get("resourceVersion")
        if wanted and wanted != old["metadata"]["resourceVersion"]:
            return status(409, "Conflict", "the object has been modified")
        merged = {**old, **body, "metadata": {**old["metadata"], **body.get("metadata", {})}}
        return web.json_response(await self._commit(plural, "MODIFIED", merged))


def _sort_of(seen: Seen) -> str:
    if seen.method == "GET" and seen.watch:
        return "watch"
    match = PATH.match(seen.path)
    return "list" if seen.method == "GET" and match and not match["name"] else seen.method


def event(kind: str, item: Object) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


def answering(response: Callable[[], web.Response]) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return response()

    return answer


def streaming(*chunks: bytes) -> Answer:
    """A watch that sends these bytes and ends."""

    async def answer(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse()
        await stream.prepare(request)
        for chunk in chunks:
            await stream.write(chunk)
        return stream

    return answer
