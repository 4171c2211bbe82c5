"""The CRDs are structural, described, and equal to the committed ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finetune_api.crds import CUSTOM_RESOURCES, custom_resource_definitions
from finetune_operator.cli.crds import rendered

ROOT = Path(__file__).parents[2]
DEFINITIONS = {definition["spec"]["names"]["kind"]: definition for definition in custom_resource_definitions()}


def nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from nodes(part, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}[]")


def all_nodes() -> list[tuple[str, dict[str, Any]]]:
    return [
        node
        for kind, definition in DEFINITIONS.items()
        for node in nodes(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"], kind)
    ]


@pytest.mark.parametrize("file", ["manifests/crds/crds.yaml", "charts/finetune-operator/crds/crds.yaml"])
def test_the_committed_crds_are_the_generated_ones(file: str) -> None:
    assert (ROOT / file).read_text() == rendered(), "run `make crds`"


def test_schemas_are_structural() -> None:
    forbidden = {"$ref", "$defs", "anyOf", "allOf", "oneOf", "const", "title", "examples"}
    for path, node in all_nodes():
        assert not forbidden & node.keys(), path
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path


def test_exclusive_bounds_are_booleans_as_in_openapi_3_0() -> None:
    for path, node in all_nodes():
        assert isinstance(node.get("exclusiveMinimum", True), bool), path
        assert isinstance(node.get("exclusiveMaximum", True), bool), path


def test_every_field_is_described() -> None:
    undescribed = [
        path for path, node in all_nodes() if not node.get("description") and not path.endswith(("[]", ".metadata"))
    ]
    assert undescribed == []


def test_lists_and_maps_of_the_spec_are_bounded_so_that_rules_stay_cheap() -> None:
    for path, node in all_nodes():
        if ".spec" in path and node.get("type") == "array":
            assert "maxItems" in node, path
        if ".spec" in path and isinstance(node.get("additionalProperties"), dict):
            assert "maxProperties" in node, path


def test_nested_objects_default_to_empty_so_that_their_fields_get_defaults() -> None:
    spec = DEFINITIONS["FineTuneJob"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert spec["properties"]["training"]["default"] == {}
    assert spec["properties"]["training"]["properties"]["batchSize"]["default"] == 32


@pytest.mark.parametrize("resource", CUSTOM_RESOURCES, ids=lambda resource: resource.kind)
def test_every_kind_has_a_short_name_a_category_and_an_age(resource: Any) -> None:
    definition = DEFINITIONS[resource.kind]["spec"]
    assert definition["names"]["shortNames"] == [resource.short_name]
    assert definition["names"]["categories"] == ["finetune"]
    assert definition["versions"][0]["additionalPrinterColumns"][-1]["name"] == "Age"


def test_model_deployments_scale() -> None:
    version = DEFINITIONS["ModelDeployment"]["spec"]["versions"][0]
    assert version["subresources"]["scale"]["specReplicasPath"] == ".spec.replicas"
