"""A webhook over HTTPS that the tests teach what to answer, and the configurations that point to it."""

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from finetune_local.apiserver.auth.certificates import ensure_pki

Object = dict[str, Any]
Answer = Callable[[Object], Object]
CONFIG_MAP_RULE = {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}
REGISTRATION = "/apis/admissionregistration.k8s.io/v1"


class WebhookServer:
    """`answers[path]` makes the response of a request; `seen` holds the requests."""

    def __init__(self, folder: Path) -> None:
        self._pki = ensure_pki(folder)
        self.answers: dict[str, Answer] = {}
        self.seen: list[Object] = []
        self.delay: asyncio.Event | None = None
        self.url = ""

    @property
    def ca_bundle(self) -> str:
        return base64.b64encode(self._pki.read("ca.crt")).decode()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/{path}", self._review)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._pki.server_context())
        await site.start()
        self.url = f"https://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _review(self, request: web.Request) -> web.Response:
        review = await request.json()
        self.seen.append(review["request"])
        if self.delay is not None:
            await self.delay.wait()
        answer = self.answers[request.match_info["path"]](review["request"])
        response = {"uid": review["request"]["uid"]} | answer
        return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})

    def hook(self, path: str, **fields: Any) -> Object:
        return {
            "name": f"{path}.webhooks.example.com",
            "clientConfig": {"url": f"{self.url}/{path}", "caBundle": self.ca_bundle},
            "rules": [CONFIG_MAP_RULE],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            **fields,
        }


def allow(_request: Object) -> Object:
    return {"allowed": True}


def deny(message: str, **status: Any) -> Answer:
    return lambda _request: {"allowed": False, "status": {"message": message, **status}}


def patch(*operations: Object) -> Answer:
    encoded = base64.b64encode(json.dumps(operations).encode()).decode()
    return lambda _request: {"allowed": True, "patchType": "JSONPatch", "patch": encoded}


def configuration(kind: str, *hooks: Object, name: str = "test") -> Object:
    """`kind`: Validating or Mutating."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}WebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": list(hooks),
    }


def path_of(kind: str) -> str:
    return f"{REGISTRATION}/{kind.lower()}webhookconfigurations"


async def closed_port() -> int:
    """A port of this machine on which nobody listens."""
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port
