"""Which API groups and versions the cluster serves: a scheduler whose API is missing is not installed."""

import asyncio
import logging

from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.errors import ApiError

log = logging.getLogger(__name__)
PERIOD_SECONDS = 30.0


class ApiGroups:
    """`names` is None until the API server has told; what it told last stays while it cannot be asked."""

    def __init__(self, api: KubeApi, period: float = PERIOD_SECONDS) -> None:
        self._api = api
        self._period = period
        self.names: frozenset[str] | None = None

    async def run(self) -> None:
        """Asks now and then, until cancelled."""
        while True:
            try:
                await self.refresh()
            except ApiError as error:
                log.warning("the API groups of the cluster: %s", error)
            await asyncio.sleep(self._period)

    async def refresh(self) -> None:
        answer = await self._api.get_path("/apis")
        groups = answer.get("groups", ())
        versions = (one["groupVersion"] for group in groups for one in group["versions"])
        self.names = frozenset((*(group["name"] for group in groups), *versions))
