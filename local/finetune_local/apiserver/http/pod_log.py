"""GET pods/NAME/log: what kubectl logs reads. The kubelet provides the bytes."""

from aiohttp import web

from finetune_local.apiserver.cluster import Cluster, LogRequest
from finetune_local.apiserver.http.parameters import flag, number
from finetune_local.apiserver.http.request_info import RequestInfo
from finetune_local.apiserver.status_error import StatusError, bad_request

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


async def stream_log(cluster: Cluster, request: web.Request, info: RequestInfo) -> web.StreamResponse:
    wanted = log_request(cluster, request, info)
    if cluster.log_provider is None:
        raise StatusError(503, "ServiceUnavailable", "no kubelet serves logs here")
    chunks = cluster.log_provider(wanted)
    # The first chunk comes before the headers, so that a refusal of the kubelet is still an error response.
    first = await anext(chunks, b"")
    response = web.StreamResponse(headers={"Content-Type": "text/plain", "Cache-Control": "no-cache, private"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    try:
        await response.write(first)
        async for chunk in chunks:
            await response.write(chunk)
    except (ConnectionResetError, ConnectionError):
        return response  # the reader has gone
    return response


def log_request(cluster: Cluster, request: web.Request, info: RequestInfo) -> LogRequest:
    """Checks the pod and its container. Raises NotFound or BadRequest."""
    pods = cluster.resource("", "v1", "pods")
    pod = cluster.operations.require(pods, info.namespace, info.name).body
    query = request.query
    return LogRequest(
        namespace=info.namespace,
        pod=info.name,
        container=_container(pod, query.get("container", "")),
        follow=flag(query, "follow"),
        previous=flag(query, "previous"),
        timestamps=flag(query, "timestamps"),
        tail_lines=_optional(request, "tailLines"),
        limit_bytes=_optional(request, "limitBytes"),
    )


def _optional(request: web.Request, name: str) -> int | None:
    return number(request.query, name) if request.query.get(name) else None


def _container(pod: dict[str, object], wanted: str) -> str:
    spec: dict[str, list[dict[str, str]]] = pod["spec"]  # type: ignore[assignment]
    meta: dict[str, dict[str, str]] = pod["metadata"]  # type: ignore[assignment]
    regular = [container["name"] for container in spec.get("containers") or ()]
    initial = [container["name"] for container in spec.get("initContainers") or ()]
    name = meta["name"]
    if not wanted:
        preferred = (meta.get("annotations") or {}).get(DEFAULT_CONTAINER)
        if preferred in regular:
            return str(preferred)
        if len(regular) == 1:
            return regular[0]
        listed = " ".join(regular)
        extra = f" or one of the init containers: [{' '.join(initial)}]" if initial else ""
        raise bad_request(f"a container name must be specified for pod {name}, choose one of: [{listed}]{extra}")
    if wanted not in regular + initial:
        raise bad_request(f"container {wanted} is not valid for pod {name}")
    return wanted
