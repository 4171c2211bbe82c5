"""Hooks of the built-in kinds: defaults, validation and table rows that go beyond the schema."""

from dataclasses import replace

from finetune_local.apiserver.custom.definition import definition_errors, fill_names
from finetune_local.apiserver.resource_type import ResourceType
from finetune_local.apiserver.revision_store import RevisionStore


def with_strategy(resource: ResourceType, store: RevisionStore) -> ResourceType:
    if resource.key == ("apiextensions.k8s.io", "customresourcedefinitions"):
        return replace(resource, set_defaults=fill_names, check=definition_errors)
    return resource
