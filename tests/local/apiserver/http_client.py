"""A small HTTP client that speaks to the API server under test."""

from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
JOBS = "/apis/batch/v1/namespaces/default/jobs"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@dataclass
class Client:
    """Requests that return (status, decoded body)."""

    session: aiohttp.ClientSession
    token: str
    warnings: list[str]

    async def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", **params: str
    ) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type}
        data = None if body is None else orjson.dumps(body)
        async with self.session.request(method, path, data=data, headers=headers, params=params) as response:
            self.warnings = response.headers.getall("Warning", [])
            text = await response.read()
            return response.status, orjson.loads(text) if response.content_type == "application/json" else text.decode()

    async def get(self, path: str, **params: str) -> tuple[int, Any]:
        return await self.request("GET", path, **params)

    async def post(self, path: str, body: Any, **params: str) -> tuple[int, Any]:
        return await self.request("POST", path, body, **params)

    async def put(self, path: str, body: Any, **params: str) -> tuple[int, Any]:
        return await self.request("PUT", path, body, **params)

    async def patch(self, path: str, body: Any, content_type: str = MERGE, **params: str) -> tuple[int, Any]:
        return await self.request("PATCH", path, body, content_type, **params)

    async def apply(self, path: str, body: Any, manager: str, *, force: bool = False) -> tuple[int, Any]:
        forced = {"force": "true"} if force else {}
        return await self.request("PATCH", path, body, APPLY, fieldManager=manager, **forced)

    async def delete(self, path: str, body: Any = None, **params: str) -> tuple[int, Any]:
        return await self.request("DELETE", path, body, **params)
