"""What a URL means (k8s.io/apiserver/pkg/endpoints/request)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RequestInfo:
    """A path below /api or /apis: a group's discovery (no resource), a collection, an object or a subresource."""

    group: str
    version: str
    namespace: str = ""
    resource: str = ""
    name: str = ""
    subresource: str = ""


NAMESPACE_SUBRESOURCES = ("status", "finalize")


def parse_path(path: str) -> RequestInfo | None:
    """None for paths that address no API resource."""
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"] and len(parts) >= 2:
        return _resource("", parts[1], parts[2:])
    if parts[:1] == ["apis"] and len(parts) >= 3:
        return _resource(parts[1], parts[2], parts[3:])
    return None


def _resource(group: str, version: str, parts: list[str]) -> RequestInfo:
    namespace = ""
    if parts[:1] == ["namespaces"] and len(parts) >= 3 and not (len(parts) == 3 and parts[2] in NAMESPACE_SUBRESOURCES):
        namespace, parts = parts[1], parts[2:]
    resource, name, subresource = ([*parts, "", "", ""])[:3]
    rest = "/".join(parts[3:])
    return RequestInfo(group, version, namespace, resource, name, subresource + ("/" + rest if rest else ""))


def request_verb(method: str, info: RequestInfo, watch: bool) -> str:
    """The verb that RBAC knows."""
    match method:
        case "GET" | "HEAD":
            return "get" if info.name else ("watch" if watch else "list")
        case "POST":
            return "create"
        case "PUT":
            return "update"
        case "PATCH":
            return "patch"
        case "DELETE":
            return "delete" if info.name else "deletecollection"
    return method.lower()
