"""Namespaces: the first ones, what each is born with, and how one goes."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.controller import Controller, Key, Result
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.resources import CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS, Kind

Object = dict[str, Any]

FIRST = ("default", "kube-system", "kube-public", "kube-node-lease")
ROOT_CA = "kube-root-ca.crt"
RETRY = 0.3


async def create_namespace(api: KubeApi, name: str) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    try:
        await api.create(NAMESPACES, body)
    except ApiError as error:
        if not error.already_exists:
            raise


class NamespaceController:
    """Gives each namespace its `default` ServiceAccount and the cluster's CA; empties those that are deleted."""

    def __init__(
        self,
        api: KubeApi,
        namespaces: Informer,
        ca_certificate: str,
        kinds: Callable[[], Iterable[Kind]],
        on_new: Callable[[str], Any],
        finalize: Callable[[str], None],
    ) -> None:
        """`on_new(name)` is awaited for each namespace that was equipped; `finalize(name)` lets an empty one go."""
        self._api = api
        self._namespaces = namespaces
        self._ca = ca_certificate
        self._kinds = kinds
        self._on_new = on_new
        self._finalize = finalize
        self._equipped: set[str] = set()
        self.controller = Controller("namespace", self.reconcile, workers=2)
        self.controller.watch(namespaces)

    async def reconcile(self, key: Key) -> Result | None:
        namespace = self._namespaces.get(*key)
        if namespace is None:
            return None
        if namespace["metadata"].get("deletionTimestamp"):
            return await self._empty(namespace)
        uid = namespace["metadata"]["uid"]
        if uid not in self._equipped:
            await self._equip(key[1])
            self._equipped.add(uid)
        return None

    async def _equip(self, name: str) -> None:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}}
        authority = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": ROOT_CA, "namespace": name},
            "data": {"ca.crt": self._ca},
        }
        await self._create(SERVICE_ACCOUNTS, account, name)
        await self._create(CONFIG_MAPS, authority, name)
        await self._on_new(name)

    async def _create(self, kind: Kind, body: Object, namespace: str) -> None:
        try:
            await self._api.create(kind, body, namespace)
        except ApiError as error:
            if not error.already_exists:
                raise

    async def _empty(self, namespace: Object) -> Result | None:
        """Deletes everything in it; the namespace goes when nothing is left."""
        name = namespace["metadata"]["name"]
        kinds = [kind for kind in self._kinds() if kind.namespaced]
        counts = await asyncio.gather(*(self._delete_all(kind, name) for kind in kinds))
        if sum(counts):
            return Result(requeue_after=RETRY)
        self._finalize(name)
        return None

    async def _delete_all(self, kind: Kind, namespace: str) -> int:
        """How many objects of the kind are left."""
        try:
            found = (await self._api.list(kind, namespace, limit=0))["items"]
        except ApiError as error:
            if error.not_found or error.status == 405:
                return 0
            raise
        for item in found:
            if not item["metadata"].get("deletionTimestamp"):
                try:
                    await self._api.delete(kind, item["metadata"]["name"], namespace, propagation="Background")
                except ApiError as error:
                    if not error.not_found:
                        raise
        return len(found)
