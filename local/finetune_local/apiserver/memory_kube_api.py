"""`finetune_operator.kube.client.KubeApi` over the store, without HTTP: for controllers in the same process."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from finetune_local.apiserver import object_codec
from finetune_local.apiserver.cluster import Cluster
from finetune_local.apiserver.delete_operations import RETURNS_OBJECT, delete, deletion_status
from finetune_local.apiserver.http.request_info import parse_path
from finetune_local.apiserver.operations import APPLY_PATCH, MERGE_PATCH
from finetune_local.apiserver.partial_metadata import partial
from finetune_local.apiserver.request_options import ADMIN, DeleteOptions, ListOptions, User, WatchOptions, WriteOptions
from finetune_local.apiserver.resource_type import ResourceType
from finetune_local.apiserver.revision_store import StoredObject
from finetune_local.apiserver.status_error import StatusError, no_such_path
from finetune_local.apiserver.subresources.posting import post_special
from finetune_local.apiserver.subresources.scale import patch_scale
from finetune_local.apiserver.watching import Watcher
from finetune_operator.kube.client import ApiError
from finetune_operator.kube.resources import Kind

Object = dict[str, Any]


class MemoryKubeApi:
    """Bodies that go in and come out are copies: nothing that a caller changes reaches the store."""

    def __init__(self, cluster: Cluster, user: User = ADMIN, field_manager: str = "finetune-local") -> None:
        self._cluster = cluster
        self._user = user
        self._field_manager = field_manager

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        with _api_errors():
            resource = self._resource(kind)
            return self._read(resource, self._cluster.operations.require(resource, namespace or "", name))

    async def get_metadata(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        return partial(await self.get(kind, name, namespace))

    async def get_path(self, path: str) -> Object:
        """Of discovery only the names of the groups are here: the documents belong to HTTP."""
        with _api_errors():
            if path.rstrip("/") != "/apis":
                raise no_such_path()
            return {
                "kind": "APIGroupList",
                "groups": [{"name": name} for name in self._cluster.registry.groups() if name],
            }

    async def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 500,
        continue_: str = "",
    ) -> Object:
        options = ListOptions(label_selector, field_selector, limit, continue_)
        with _api_errors():
            resource = self._resource(kind)
            page = self._cluster.reader.list_page(resource, namespace or "", options)
            listed: Object = orjson.loads(page.render(resource))
            return listed

    async def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        timeout_seconds: int,
    ) -> AsyncIterator[Object]:
        options = WatchOptions(
            label_selector,
            field_selector,
            resource_version,
            allow_bookmarks=True,
            timeout_seconds=timeout_seconds,
        )
        with _api_errors():
            watcher = Watcher(self._cluster.store, self._resource(kind), namespace or "", options)
            watcher.start()
        self._cluster.watchers.add(watcher)
        try:
            async for event in watcher.events():
                yield {"type": event.type, "object": orjson.loads(event.object)}
        finally:
            self._cluster.watchers.discard(watcher)

    async def create(self, kind: Kind, body: Object, namespace: str | None = None) -> Object:
        with _api_errors():
            resource = self._resource(kind)
            where = namespace or _namespace_of(body)
            return self._read(resource, await self._create(resource, where, body))

    async def _create(self, resource: ResourceType, namespace: str, body: Object) -> StoredObject:
        operations = self._cluster.operations
        return await self._cluster.admission.admit(
            lambda new, run: operations.create(resource, namespace, new, run), _copy(body), self._write_options()
        )

    async def replace(self, kind: Kind, body: Object) -> Object:
        return await self._update(kind, body, "")

    async def replace_status(self, kind: Kind, body: Object) -> Object:
        return await self._update(kind, body, "status")

    async def _update(self, kind: Kind, body: Object, subresource: str) -> Object:
        namespace, name, operations = _namespace_of(body), body["metadata"]["name"], self._cluster.operations
        with _api_errors():
            resource = self._resource(kind)
            stored = await self._cluster.admission.admit(
                lambda new, run: operations.update(resource, namespace, name, new, run, subresource),
                _copy(body),
                self._write_options(),
            )
            return self._read(resource, stored)

    async def apply(
        self, kind: Kind, body: Object, *, field_manager: str, force: bool = True, subresource: str | None = None
    ) -> Object:
        options = self._write_options(field_manager)
        options.force = force
        return await self._patch(
            kind, body["metadata"]["name"], body, _namespace_of(body), subresource, APPLY_PATCH, options
        )

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Any,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        content_type: str = MERGE_PATCH,
        field_manager: str | None = None,
    ) -> Object:
        options = self._write_options(field_manager or "")
        return await self._patch(kind, name, patch, namespace or "", subresource, content_type, options)

    async def _patch(
        self,
        kind: Kind,
        name: str,
        patch: Any,
        namespace: str,
        subresource: str | None,
        content_type: str,
        options: WriteOptions,
    ) -> Object:
        with _api_errors():
            resource = self._resource(kind)
            operations = self._cluster.operations
            if subresource == "scale":
                return patch_scale(operations, resource, namespace, name, _copy(patch), content_type, options)
            stored, _ = await self._cluster.admission.admit(
                lambda new, run: operations.patch(resource, namespace, name, new, content_type, run, subresource or ""),
                _copy(patch),
                options,
            )
            return self._read(resource, stored)

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str | None = None,
        *,
        propagation: str = "Background",
        uid: str | None = None,
        grace_period_seconds: int | None = None,
    ) -> Object | None:
        options = DeleteOptions(grace_period_seconds, propagation, uid or "", user=self._user)
        operations = self._cluster.operations
        with _api_errors():
            resource = self._resource(kind)
            try:
                stored, gone = await self._cluster.admission.admit(
                    lambda _body, run: delete(operations, resource, namespace or "", name, run), None, options
                )
            except StatusError as error:
                if error.code == 404:
                    return None
                raise
            if gone and resource.key not in RETURNS_OBJECT:
                return deletion_status(resource, stored)
            return self._read(resource, stored)

    async def post(self, path: str, body: Object) -> Object:
        with _api_errors():
            info = parse_path(path)
            if info is None or not info.resource:
                raise no_such_path()
            resource = self._cluster.resource(info.group, info.version, info.resource)
            special = post_special(self._cluster, resource, info, _copy(body), self._user)
            if special is not None:
                return special
            return self._read(resource, await self._create(resource, info.namespace, body))

    def _resource(self, kind: Kind) -> ResourceType:
        return self._cluster.resource(kind.group, kind.version, kind.plural)

    def _write_options(self, field_manager: str = "") -> WriteOptions:
        return WriteOptions(field_manager=field_manager or self._field_manager, user=self._user)

    def _read(self, resource: ResourceType, stored: StoredObject) -> Object:
        return object_codec.from_storage(resource, stored)


def _copy(body: Any) -> Any:
    return orjson.loads(orjson.dumps(body))


def _namespace_of(body: Object) -> str:
    return str((body.get("metadata") or {}).get("namespace") or "")


@contextmanager
def _api_errors() -> Iterator[None]:
    """Refusals look as they do over HTTP."""
    try:
        yield
    except StatusError as error:
        retry = error.details.get("retryAfterSeconds")
        raise ApiError(error.code, error.reason, error.message, error.status(), retry) from error
