"""One CustomResourceDefinition: its checks, and the resource types that it makes."""

from typing import Any

from finetune_local.apiserver.cel_rules import RuleError, compile_rule, compile_rules
from finetune_local.apiserver.custom.structural import structural_errors
from finetune_local.apiserver.resource_type import ALL_VERBS, Column, ResourceType, ScalePaths
from finetune_local.apiserver.schema import FREE_FORM, Schema, SchemaCompiler
from finetune_local.apiserver.status_error import Cause, forbidden_field, invalid_value, required
from finetune_local.apiserver.string_formats import dns_1035_label_error, dns_subdomain_error

Object = dict[str, Any]
AGE = Column(
    "Age",
    "date",
    "",
    "CreationTimestamp is a timestamp representing the server time when this object was created.",
    0,
    ".metadata.creationTimestamp",
)


def definition_errors(body: Object, old: Object | None) -> list[Cause]:
    spec = body.get("spec") or {}
    errors = _name_errors(body, spec) + _version_errors(spec)
    if old is not None:
        for field in ("group", "scope"):
            if spec.get(field) != old["spec"].get(field):
                errors.append(invalid_value(f"spec.{field}", spec.get(field), "field is immutable"))
        if spec.get("names", {}).get("plural") != old["spec"]["names"]["plural"]:
            errors.append(invalid_value("spec.names.plural", spec.get("names", {}).get("plural"), "field is immutable"))
    for index, version in enumerate(spec.get("versions") or ()):
        errors += _schema_errors(version, f"spec.versions[{index}]")
    return errors


def _name_errors(body: Object, spec: Object) -> list[Cause]:
    names = spec.get("names") or {}
    errors = []
    expected = f"{names.get('plural', '')}.{spec.get('group', '')}"
    name = body["metadata"].get("name", "")
    if name != expected:
        errors.append(invalid_value("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    if text := dns_subdomain_error(spec.get("group", "")):
        errors.append(invalid_value("spec.group", spec.get("group", ""), text))
    if "." not in spec.get("group", ""):
        errors.append(invalid_value("spec.group", spec.get("group", ""), "should be a domain with at least one dot"))
    for field in ("plural", "singular"):
        value = names.get(field, "")
        if value and (text := dns_1035_label_error(value)):
            errors.append(invalid_value(f"spec.names.{field}", value, text))
    kind = names.get("kind", "")
    if kind and (text := dns_1035_label_error(kind.lower())):
        errors.append(
            invalid_value("spec.names.kind", kind, f"may have mixed case, but should otherwise match: {text}")
        )
    return errors


def _version_errors(spec: Object) -> list[Cause]:
    versions = spec.get("versions") or []
    if not versions:
        return [required("spec.versions", "must have at least one version")]
    errors = []
    if sum(bool(version.get("storage")) for version in versions) != 1:
        errors.append(
            invalid_value("spec.versions", "array", "must have exactly one version marked as storage version")
        )
    for index, version in enumerate(versions):
        if not (version.get("schema") or {}).get("openAPIV3Schema"):
            errors.append(required(f"spec.versions[{index}].schema.openAPIV3Schema", "schemas are required"))
    return errors


def _schema_errors(version: Object, path: str) -> list[Cause]:
    raw = (version.get("schema") or {}).get("openAPIV3Schema")
    if not raw:
        return []
    path = f"{path}.schema.openAPIV3Schema"
    return structural_errors(raw, path) + _rule_errors(raw, path) + _metadata_errors(raw, path)


def _metadata_errors(raw: Object, path: str) -> list[Cause]:
    meta = (raw.get("properties") or {}).get("metadata") or {}
    extra = set(meta.get("properties") or {}) - {"name", "generateName"}
    text = "must not specify anything other than name and generateName, but metadata is implicitly specified"
    return [forbidden_field(f"{path}.properties[metadata]", text)] if extra else []


def _rule_errors(raw: Object, path: str) -> list[Cause]:
    errors = []
    for index, rule in enumerate(raw.get("x-kubernetes-validations") or ()):
        try:
            compile_rule(rule)
        except RuleError as error:
            errors.append(invalid_value(f"{path}.x-kubernetes-validations[{index}].rule", rule.get("rule"), str(error)))
    for name, child in (raw.get("properties") or {}).items():
        errors += _rule_errors(child, f"{path}.properties[{name}]")
    for keyword in ("items", "additionalProperties"):
        if isinstance(raw.get(keyword), dict):
            errors += _rule_errors(raw[keyword], f"{path}.{keyword}")
    return errors


def fill_names(body: Object, _old: Object | None) -> None:
    """Defaults of spec.names, as the real server sets them."""
    names = (body.get("spec") or {}).get("names") or {}
    if names.get("kind"):
        names.setdefault("singular", names["kind"].lower())
        names.setdefault("listKind", names["kind"] + "List")


def resource_types(body: Object, meta: Schema) -> list[ResourceType]:
    """One for each served version; `meta` is the schema of ObjectMeta."""
    spec = body["spec"]
    storage = next(version["name"] for version in spec["versions"] if version.get("storage"))
    verbs = (
        tuple(verb for verb in ALL_VERBS if verb != "create")
        if body["metadata"].get("deletionTimestamp")
        else ALL_VERBS
    )
    return [
        _resource_type(spec, version, storage, verbs, meta) for version in spec["versions"] if version.get("served")
    ]


def _resource_type(spec: Object, version: Object, storage: str, verbs: tuple[str, ...], meta: Schema) -> ResourceType:
    names = spec["names"]
    subresources = version.get("subresources") or {}
    return ResourceType(
        group=spec["group"],
        version=version["name"],
        kind=names["kind"],
        plural=names["plural"],
        namespaced=spec.get("scope") == "Namespaced",
        singular=names.get("singular") or names["kind"].lower(),
        list_kind=names.get("listKind") or names["kind"] + "List",
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        verbs=verbs,
        schema=root_schema(version["schema"]["openAPIV3Schema"], meta),
        status_subresource="status" in subresources,
        scale=_scale(subresources.get("scale")),
        has_generation=True,
        columns=_columns(version),
        storage_version=storage,
        selectable_fields=tuple(field["jsonPath"].lstrip(".") for field in version.get("selectableFields") or ()),
        deprecation_warning=_deprecation(spec, version),
    )


def root_schema(raw: Object, meta: Schema) -> Schema:
    """Compiled, with CEL rules; identity and metadata are implicit in every CRD's schema."""
    schema = SchemaCompiler().compile(raw)
    compile_rules(schema)
    schema.properties["metadata"] = meta
    schema.properties.setdefault("apiVersion", FREE_FORM)
    schema.properties.setdefault("kind", FREE_FORM)
    return schema


def _scale(raw: Object | None) -> ScalePaths | None:
    if raw is None:
        return None
    return ScalePaths(raw["specReplicasPath"], raw["statusReplicasPath"], raw.get("labelSelectorPath", ""))


def _columns(version: Object) -> tuple[Column, ...]:
    declared = version.get("additionalPrinterColumns")
    if not declared:
        return (AGE,)
    return tuple(
        Column(
            column["name"],
            column["type"],
            column.get("format", ""),
            column.get("description", ""),
            column.get("priority", 0),
            column["jsonPath"],
        )
        for column in declared
    )


def _deprecation(spec: Object, version: Object) -> str:
    if not version.get("deprecated"):
        return ""
    name = f"{spec['group']}/{version['name']} {spec['names']['kind']}"
    return str(version.get("deprecationWarning") or f"{name} is deprecated")
