"""Schemas compiled once: the structural OpenAPI v3 schemas of custom resources and the definitions of built-in kinds.

One node type serves decoding, pruning, defaulting, validation, patches and server-side apply.
Structural schemas: KEP-2337-like rules of apiextensions.k8s.io/v1, "Specifying a structural schema".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MISSING = object()
CONSTRAINTS = frozenset(
    (
        *("required", "enum", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minProperties"),
        *("maxProperties", "minimum", "maximum", "multipleOf", "allOf", "anyOf", "oneOf", "not"),
    )
)


@dataclass(slots=True, eq=False)
class Schema:
    """One node. `type` is empty for free-form JSON."""

    type: str = ""
    format: str = ""
    properties: dict[str, "Schema"] = field(default_factory=dict)
    additional: "Schema | None" = None
    items: "Schema | None" = None
    required: tuple[str, ...] = ()
    default: Any = MISSING
    nullable: bool = False
    int_or_string: bool = False
    preserve_unknown: bool = False
    embedded_resource: bool = False
    list_type: str = ""
    map_keys: tuple[str, ...] = ()
    map_type: str = ""
    patch_merge_key: str = ""
    patch_strategy: str = ""
    pattern: "re.Pattern[str] | None" = None
    raw: dict[str, Any] = field(default_factory=dict)
    rules: list[Any] = field(default_factory=list)  # compiled x-kubernetes-validations, set by cel_rules
    defaulted: tuple[tuple[str, Any], ...] = ()  # properties of this very node that have a default
    has_defaults: bool = False  # here or below
    has_rules: bool = False  # here or below
    constrained: bool = False  # something but the JSON type is to be checked here or below
    cel_converts: bool = False  # values here or below look different to CEL

    @property
    def atomic(self) -> bool:
        """Owned as a whole in server-side apply: scalars, atomic maps, lists without keys, free-form values."""
        if self.type == "array":
            return self.list_type not in ("map", "set")
        if self.type == "object":
            return self.map_type == "atomic"
        return True

    def child(self, key: str) -> "Schema | None":
        return self.properties.get(key) or self.additional

    def children(self) -> Iterator["Schema"]:
        yield from self.properties.values()
        if self.additional:
            yield self.additional
        if self.items:
            yield self.items


FREE_FORM = Schema(preserve_unknown=True)


class SchemaCompiler:
    """Turns OpenAPI documents into nodes; `$ref`s to `#/definitions/NAME` are resolved once each and may recurse."""

    def __init__(self, definitions: dict[str, Any] | None = None) -> None:
        self._definitions = definitions or {}
        self._resolved: dict[str, Schema] = {}

    def named(self, name: str) -> Schema:
        if name not in self._resolved:
            node = self._resolved[name] = Schema()
            self._fill(node, self._definitions[name])
        return self._resolved[name]

    def compile(self, raw: dict[str, Any]) -> Schema:
        reference = raw.get("$ref")
        overrides = {key: value for key, value in raw.items() if key not in ("$ref", "description")}
        if reference and not overrides:
            return self.named(reference.rpartition("/")[2])
        if reference:
            raw = self._definitions[reference.rpartition("/")[2]] | overrides
        node = Schema()
        self._fill(node, raw)
        return node

    def _fill(self, node: Schema, raw: dict[str, Any]) -> None:
        node.raw = raw
        _fill_scalars(node, raw)
        node.properties = {key: self.compile(value) for key, value in raw.get("properties", {}).items()}
        additional = raw.get("additionalProperties")
        if isinstance(additional, dict):
            node.additional = self.compile(additional)
        elif additional is True:
            node.additional = FREE_FORM
        if isinstance(raw.get("items"), dict):
            node.items = self.compile(raw["items"])
        node.defaulted = tuple(
            (key, value.default) for key, value in node.properties.items() if value.default is not MISSING
        )
        node.has_defaults = bool(node.defaulted) or any(child.has_defaults for child in node.children())
        own = bool(CONSTRAINTS & raw.keys()) or node.list_type in ("map", "set")
        node.constrained = own or any(child.constrained for child in node.children())


def _fill_scalars(node: Schema, raw: dict[str, Any]) -> None:
    node.type = raw.get("type", "")
    node.format = raw.get("format", "")
    node.required = tuple(raw.get("required", ()))
    node.default = raw.get("default", MISSING)
    node.nullable = raw.get("nullable", False)
    node.int_or_string = raw.get("x-kubernetes-int-or-string", False)
    node.embedded_resource = raw.get("x-kubernetes-embedded-resource", False)
    node.preserve_unknown = raw.get("x-kubernetes-preserve-unknown-fields", not node.type and not node.int_or_string)
    node.list_type = raw.get("x-kubernetes-list-type", "")
    node.map_keys = tuple(raw.get("x-kubernetes-list-map-keys", ()))
    node.map_type = raw.get("x-kubernetes-map-type", "")
    node.patch_merge_key = raw.get("x-kubernetes-patch-merge-key", "")
    node.patch_strategy = raw.get("x-kubernetes-patch-strategy", "")
    if "pattern" in raw:
        node.pattern = re.compile(raw["pattern"])
