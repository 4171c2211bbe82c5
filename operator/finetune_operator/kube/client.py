"""The Kubernetes API as the controllers see it: plain dicts in, plain dicts out, `ApiError` on refusal."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol, Self

import aiohttp
import orjson

from finetune_operator.kube.credentials import Credentials, KubeConfigError, load_credentials
from finetune_operator.kube.errors import ApiError, Object
from finetune_operator.kube.resources import Kind
from finetune_operator.kube.transport import Transport, failure_of

__all__ = ["ApiError", "HttpKubeApi", "KubeApi", "KubeConfigError", "Object"]

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""As the one form that is accepted: a server that does not know it refuses, and sends nothing more than was asked for.

https://kubernetes.io/docs/reference/using-api/api-concepts/#metadata-only-fetches"""


class KubeApi(Protocol):
    """What the runtime needs of an API server; over HTTP here, over the in-memory store in local mode."""

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object: ...

    async def get_metadata(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        """PartialObjectMetadata: whatever else the object holds does not leave the server."""
        ...

    async def get_path(self, path: str) -> Object:
        """GET of any path that answers with JSON: /version, discovery."""
        ...

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
        """One page, as the server sends it: `items`, `metadata.resourceVersion`, `metadata.continue`."""
        ...

    def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        timeout_seconds: int,
    ) -> AsyncIterator[Object]:
        """Raw events `{"type", "object"}` with bookmarks, until the server closes the stream.

        Raises ApiError: 410 when the resourceVersion is too old; ERROR events are yielded, not raised.
        """
        ...

    async def create(self, kind: Kind, body: Object, namespace: str | None = None) -> Object: ...

    async def replace(self, kind: Kind, body: Object) -> Object:
        """PUT; with `metadata.resourceVersion` it is a compare-and-swap."""
        ...

    async def replace_status(self, kind: Kind, body: Object) -> Object: ...

    async def apply(
        self,
        kind: Kind,
        body: Object,
        *,
        field_manager: str,
        force: bool = True,
        subresource: str | None = None,
    ) -> Object:
        """Server-side apply."""
        ...

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
    ) -> Object: ...

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
        """The object, or the Status, that the server answers; None when there was nothing to delete."""
        ...

    async def post(self, path: str, body: Object) -> Object:
        """POST to any path: TokenReview, SubjectAccessReview, the token subresource."""
        ...


class HttpKubeApi:
    """`KubeApi` over HTTPS. Watches have connections of their own, so that they never starve the writes."""

    def __init__(self, requests: Transport, watches: Transport, *, watch_idle: float = 120.0) -> None:
        self._requests = requests
        self._watches = watches
        self._watch_idle = watch_idle
        # A bookmark comes about once a minute: longer silence means a half-open connection.
        self._watch_timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=watch_idle)

    @classmethod
    async def connect(
        cls,
        kubeconfig: str | None = None,
        context: str | None = None,
        *,
        workers: int = 32,
        watches: int = 16,
        timeout: float = 30.0,
        watch_idle: float = 120.0,
        user_agent: str = "finetune-operator",
    ) -> Self:
        """From a kubeconfig file, or from the pod's service account. Sizes the pools; sends nothing yet."""
        credentials = await load_credentials(kubeconfig, context)
        return cls.with_credentials(
            credentials,
            workers=workers,
            watches=watches,
            timeout=timeout,
            watch_idle=watch_idle,
            user_agent=user_agent,
        )

    @classmethod
    def with_credentials(
        cls,
        credentials: Credentials,
        *,
        workers: int = 32,
        watches: int = 16,
        timeout: float = 30.0,
        watch_idle: float = 120.0,
        user_agent: str = "finetune-operator",
    ) -> Self:
        return cls(
            Transport(credentials, connections=workers, timeout=timeout, user_agent=user_agent),
            Transport(credentials, connections=watches, timeout=timeout, user_agent=user_agent),
            watch_idle=watch_idle,
        )

    def fenced(self, check: Callable[[], None]) -> Self:
        """The same client for a process that may not always write: `check` raises before a write when it may not.

        A reconcile that was frozen between two of its writes must not send the second one when it thaws.
        """
        return type(self)(self._requests.fenced(check), self._watches, watch_idle=self._watch_idle)

    async def close(self) -> None:
        await asyncio.gather(self._requests.close(), self._watches.close())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        return await self._requests.request("GET", kind.path(namespace, name))

    async def get_metadata(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        """See `KubeApi.get_metadata`."""
        return await self._requests.request("GET", kind.path(namespace, name), accept=METADATA_ONLY)

    async def get_path(self, path: str) -> Object:
        """GET of any path that answers with JSON: /version, discovery."""
        return await self._requests.request("GET", path)

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
        params = _given(labelSelector=label_selector, fieldSelector=field_selector)
        if limit:
            params["limit"] = str(limit)
        if continue_:
            params["continue"] = continue_
        return await self._requests.request("GET", kind.path(namespace), params)

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
        """See `KubeApi.watch`. The first event is a bookmark of our own: the server has accepted the watch."""
        path = kind.path(namespace)
        params = _given(labelSelector=label_selector, fieldSelector=field_selector)
        params |= {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_seconds),
        }
        try:
            response = await self._watches.send("GET", path, params, None, "", self._watch_timeout)
            async with response:
                if response.status >= 300:
                    raise failure_of(response, await response.read())
                yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": resource_version}}}
                async for event in _lines(response):
                    yield event
        except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError) as error:
            raise self._watches.unreachable("GET", path, error) from error

    async def create(self, kind: Kind, body: Object, namespace: str | None = None) -> Object:
        namespace = namespace or body.get("metadata", {}).get("namespace")
        if kind.namespaced and not namespace:
            raise ValueError(f"a {kind.kind} is created in a namespace: set metadata.namespace")
        return await self._requests.request("POST", kind.path(namespace), None, body)

    async def replace(self, kind: Kind, body: Object) -> Object:
        return await self._requests.request("PUT", _path_of(kind, body), None, body)

    async def replace_status(self, kind: Kind, body: Object) -> Object:
        return await self._requests.request("PUT", _path_of(kind, body, "status"), None, body)

    async def apply(
        self,
        kind: Kind,
        body: Object,
        *,
        field_manager: str,
        force: bool = True,
        subresource: str | None = None,
    ) -> Object:
        params = {"fieldManager": field_manager, "force": "true" if force else "false"}
        path = _path_of(kind, body, subresource)
        return await self._requests.request("PATCH", path, params, body, APPLY_PATCH)

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
        params = _given(fieldManager=field_manager or "")
        path = kind.path(namespace, name, subresource)
        return await self._requests.request("PATCH", path, params, patch, content_type)

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
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        try:
            return await self._requests.request("DELETE", kind.path(namespace, name), None, options)
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def post(self, path: str, body: Object) -> Object:
        return await self._requests.request("POST", path, None, body)


def _path_of(kind: Kind, body: Object, subresource: str | None = None) -> str:
    metadata = body["metadata"]
    return kind.path(metadata.get("namespace"), metadata["name"], subresource)


def _given(**params: str) -> dict[str, str]:
    return {name: value for name, value in params.items() if value}


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[Object]:
    """Watch events, one a line. Splits by hand: aiohttp's readline refuses lines longer than its buffer."""
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield orjson.loads(line)
    if rest.strip():
        raise aiohttp.ClientPayloadError("the stream ended inside an event")


def label_selector(labels: Mapping[str, str]) -> str:
    """`{"app": "x"}` as the API's `app=x`."""
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
