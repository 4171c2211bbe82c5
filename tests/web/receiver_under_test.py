"""The progress receiver on a port of its own, and tokens as the kubelet projects them."""

import asyncio
from typing import Any

import aiohttp

from controllers.cluster_user import NAMESPACE
from controllers.operator_under_test import OperatorUnderTest
from finetune_api.names import progress_audience
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.servers import Server
from finetune_operator.web.progress import ProgressReceiver
from finetune_operator.web.progress_token import TokenReviewer
from finetune_operator.web.progress_writer import ProgressWriter

INTERVAL = 0.2


class ReceiverUnderTest:
    """`async with`; `post` is what rank 0 does."""

    def __init__(self, operator: OperatorUnderTest) -> None:
        self._now = 0.0
        caches = [operator.caches]
        self.writer = ProgressWriter(operator.api, caches, interval=INTERVAL)  # type: ignore[arg-type]
        reviewer = TokenReviewer(operator.api, lambda: self._now)  # type: ignore[arg-type]
        self._server = Server(ProgressReceiver(caches, reviewer, self.writer).app(), 0, "127.0.0.1")

    def wait(self, seconds: float) -> None:
        """Moves the clock of the token cache."""
        self._now += seconds

    async def __aenter__(self) -> "ReceiverUnderTest":
        await self._server.start()
        self._session = aiohttp.ClientSession()
        self._writing = asyncio.create_task(self.writer.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writing.cancel()
        await asyncio.gather(self._writing, return_exceptions=True)
        await self._session.close()
        await self._server.close()

    async def post(
        self, token: str | None, body: Any = None, job: str = "tickets", namespace: str = NAMESPACE, **report: Any
    ) -> int:
        """The answer's status."""
        url = f"http://127.0.0.1:{self._server.port}/v1/jobs/{namespace}/{job}/progress"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if body is None:
            body = {"attempt": 1, "step": 10, "totalSteps": 100, **report}
        payload = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self._session.post(url, headers=headers, **payload) as answer:
            return answer.status


async def projected_token(
    api: KubeApi, job: dict[str, Any], pod: dict[str, Any] | None, *, audience: str = "", seconds: int = 3600
) -> str:
    """As the kubelet asks for it: bound to the pod, for the job's audience."""
    metadata = job["metadata"]
    spec: dict[str, Any] = {
        "audiences": [audience or progress_audience(metadata["namespace"], metadata["name"], metadata["uid"])],
        "expirationSeconds": seconds,
    }
    if pod is not None:
        bound = {"kind": "Pod", "apiVersion": "v1", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        spec["boundObjectRef"] = bound
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    account = pod["spec"]["serviceAccountName"] if pod else "default"
    path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
    return str((await api.post(path, body))["status"]["token"])
