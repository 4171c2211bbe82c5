"""OpenAPI v2 and v3 documents of everything that is served: kubectl explain, apply and dry runs read them."""

import hashlib
from typing import Any

import orjson

from finetune_local.apiserver.builtin.catalog import definitions
from finetune_local.apiserver.cluster import Cluster
from finetune_local.apiserver.resource_type import ResourceType

Object = dict[str, Any]
PATCH_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation", "force", "pretty")
WRITE_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation", "pretty")
STRIPPED_V2 = ("default", "nullable", "oneOf", "anyOf", "allOf", "not", "x-kubernetes-validations")


class OpenApi:
    """Documents are built at first use and again after the served kinds have changed."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._generation = -1
        self._documents: dict[str, bytes] = {}

    def get(self, path: str) -> bytes | None:
        """The document at /openapi/v2, /openapi/v3 or /openapi/v3/apis/GROUP/VERSION."""
        if self._generation != self._cluster.registry.generation:
            self._generation = self._cluster.registry.generation
            self._documents = {}
        if path not in self._documents:
            built = self._build(path)
            if built is None:
                return None
            self._documents[path] = built
        return self._documents[path]

    def _build(self, path: str) -> bytes | None:
        if path == "/openapi/v2":
            return orjson.dumps(self._v2())
        if path == "/openapi/v3":
            return orjson.dumps(self._v3_index())
        return self._v3(path.removeprefix("/openapi/v3/"))

    def _v2(self) -> Object:
        schemas: Object = dict(definitions())
        paths: Object = {}
        for resource in self._cluster.registry:
            schemas[definition_name(resource)] = _as_v2(resource_schema(resource, "#/definitions/"))
            paths |= resource_paths(resource)
        return {
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": "v1.36.2"},
            "paths": paths,
            "definitions": schemas,
        }

    def _v3_index(self) -> Object:
        paths = {}
        for group, versions in self._cluster.registry.groups().items():
            for version in versions:
                name = f"apis/{group}/{version}" if group else f"api/{version}"
                document = self.get(f"/openapi/v3/{name}") or b""
                digest = hashlib.sha256(document).hexdigest()[:32].upper()
                paths[name] = {"serverRelativeURL": f"/openapi/v3/{name}?hash={digest}"}
        return {"paths": paths}

    def _v3(self, name: str) -> bytes | None:
        parts = name.split("/")
        group, version = ("", parts[1]) if parts[0] == "api" and len(parts) == 2 else ("/".join(parts[1:-1]), parts[-1])
        resources = self._cluster.registry.in_version(group, version)
        if not resources:
            return None
        schemas: Object = {}
        paths: Object = {}
        for resource in resources:
            schemas[definition_name(resource)] = resource_schema(resource, "#/components/schemas/")
            paths |= resource_paths(resource, v3=True)
        _add_referenced(schemas)
        return orjson.dumps(
            {
                "openapi": "3.0.0",
                "info": {"title": "Kubernetes", "version": "v1.36.2"},
                "paths": paths,
                "components": {"schemas": schemas},
            }
        )


def definition_name(resource: ResourceType) -> str:
    if not resource.custom:
        return resource.definition
    reversed_group = ".".join(reversed(resource.group.split(".")))
    return f"{reversed_group}.{resource.version}.{resource.kind}"


def resource_schema(resource: ResourceType, prefix: str) -> Object:
    gvk = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    schema: Object = dict(resource.schema.raw) | {"x-kubernetes-group-version-kind": [gvk]}
    if resource.custom:
        identity = definitions()["V1Pod"]["properties"]
        schema["properties"] = dict(schema.get("properties") or {}) | {
            "apiVersion": identity["apiVersion"],
            "kind": identity["kind"],
            "metadata": {"$ref": "#/definitions/V1ObjectMeta", "description": "Standard object's metadata."},
        }
    return schema if prefix == "#/definitions/" else _with_prefix(schema, prefix)


def _with_prefix(schema: Any, prefix: str) -> Any:
    """v3 keeps schemas elsewhere, and allows nothing beside a $ref: descriptions need an allOf."""
    if isinstance(schema, list):
        return [_with_prefix(item, prefix) for item in schema]
    if not isinstance(schema, dict):
        return schema
    converted = {key: _with_prefix(value, prefix) for key, value in schema.items() if key != "$ref"}
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return converted if reference is None else converted | {"$ref": _with_prefix(reference, prefix)}
    target = {"$ref": prefix + reference.rpartition("/")[2]}
    return converted | {"allOf": [target]} if converted else target


def _add_referenced(schemas: Object) -> None:
    """All definitions that the schemas lead to."""
    pending = list(schemas.values())
    while pending:
        for name in _references(pending.pop()):
            if name not in schemas:
                schemas[name] = _with_prefix(definitions()[name], "#/components/schemas/")
                pending.append(schemas[name])


def _references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [name for item in schema for name in _references(item)]
    if not isinstance(schema, dict):
        return []
    reference = schema.get("$ref")
    own = [reference.rpartition("/")[2]] if isinstance(reference, str) else []
    return own + [name for value in schema.values() for name in _references(value)]


def _as_v2(schema: Any) -> Any:
    """Custom resources in OpenAPI v2 lose what v2 cannot say, as on the real server."""
    if isinstance(schema, list):
        return [_as_v2(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _as_v2(value)
        for key, value in schema.items()
        if key not in STRIPPED_V2 or (isinstance(value, dict) and "type" in value)
    }


def resource_paths(resource: ResourceType, v3: bool = False) -> Object:
    """Paths with the operations that clients look for: kubectl reads the parameters of PATCH."""
    gvk = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    collection = resource.path("{namespace}" if resource.namespaced else "")

    def operation(action: str, names: tuple[str, ...]) -> Object:
        kind = {"schema": {"type": "string"}} if v3 else {"type": "string"}
        parameters = [{"name": name, "in": "query", "uniqueItems": True} | kind for name in names]
        ok = {"description": "OK"}
        group = resource.group.title().replace(".", "")
        return {
            "operationId": f"{action}{group}{resource.version.title()}{resource.kind}",
            "parameters": parameters,
            "responses": {"200": ok},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk,
        }

    paths: Object = {collection: {"post": operation("post", WRITE_PARAMETERS)}}
    if "list" in resource.verbs:
        paths[collection]["get"] = operation("list", ("labelSelector", "fieldSelector", "limit", "continue", "watch"))
    if "patch" in resource.verbs:
        paths[collection + "/{name}"] = {
            "get": operation("get", ("pretty",)),
            "put": operation("put", WRITE_PARAMETERS),
            "patch": operation("patch", PATCH_PARAMETERS),
            "delete": operation("delete", ("dryRun", "gracePeriodSeconds", "propagationPolicy")),
        }
    return paths
