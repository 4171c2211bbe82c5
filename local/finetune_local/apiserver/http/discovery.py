"""Discovery documents: which groups, versions and resources there are."""

from typing import Any

from aiohttp import web

from finetune_local.apiserver.cluster import Cluster
from finetune_local.apiserver.resource_type import ResourceType

Object = dict[str, Any]
HEALTH = ("/healthz", "/livez", "/readyz")
VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.2+finetune",
    "gitCommit": "0000000000000000000000000000000000000000",
    "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "python",
    "platform": "linux/amd64",
}


# Subresources that are not status or scale: name, group, version, kind, verbs.
SPECIAL: dict[tuple[str, str], list[tuple[str, str, str, str, tuple[str, ...]]]] = {
    ("", "pods"): [
        ("log", "", "", "Pod", ("get",)),
        ("eviction", "policy", "v1", "Eviction", ("create",)),
        ("binding", "", "", "Binding", ("create",)),
    ],
    ("", "namespaces"): [("finalize", "", "", "Namespace", ("update",))],
    ("", "serviceaccounts"): [("token", "authentication.k8s.io", "v1", "TokenRequest", ("create",))],
}


def document(cluster: Cluster, request: web.Request) -> Object | None:
    """The document at a discovery path; None when there is none."""
    parts = [part for part in request.path.split("/") if part]
    groups = cluster.registry.groups()
    match parts:
        case []:
            return {"paths": paths(groups)}
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["api", "v1"]:
            return resource_list(cluster, "", "v1")
        case ["apis"]:
            return {
                "kind": "APIGroupList",
                "apiVersion": "v1",
                "groups": [group(name, groups[name]) for name in groups if name],
            }
        case ["apis", name] if name in groups and name:
            return {"kind": "APIGroup", "apiVersion": "v1"} | group(name, groups[name])
        case ["apis", name, version] if version in groups.get(name, ()):
            return resource_list(cluster, name, version)
    return None


def paths(groups: dict[str, list[str]]) -> list[str]:
    named = [f"/apis/{name}/{version}" for name, versions in groups.items() if name for version in versions]
    bare = {f"/apis/{name}" for name in groups if name}
    return sorted(["/api", "/api/v1", "/apis", *named, *bare, *HEALTH, "/openapi/v2", "/openapi/v3", "/version"])


def group(name: str, versions: list[str]) -> Object:
    entries = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": entries, "preferredVersion": entries[0]}


def resource_list(cluster: Cluster, group_name: str, version: str) -> Object:
    resources: list[Object] = []
    for resource in sorted(cluster.registry.in_version(group_name, version), key=lambda one: one.plural):
        resources.append(api_resource(resource))
        resources += subresources(resource)
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group_name}/{version}" if group_name else version,
        "resources": resources,
    }


def api_resource(resource: ResourceType) -> Object:
    entry: Object = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    return entry


def subresources(resource: ResourceType) -> list[Object]:
    entries = []
    if resource.status_subresource:
        entries.append(_subresource(resource, "status", resource.kind, ["get", "patch", "update"]))
    if resource.scale is not None:
        scale = _subresource(resource, "scale", "Scale", ["get", "patch", "update"])
        entries.append(scale | {"group": "autoscaling", "version": "v1"})
    for name, group_name, version, kind, verbs in SPECIAL.get(resource.key, ()) if not resource.custom else ():
        entry = _subresource(resource, name, kind, list(verbs))
        entries.append(entry | ({"group": group_name, "version": version} if group_name else {}))
    return entries


def _subresource(resource: ResourceType, name: str, kind: str, verbs: list[str]) -> Object:
    return {
        "name": f"{resource.plural}/{name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": kind,
        "verbs": verbs,
    }
