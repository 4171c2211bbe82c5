"""Hooks of the built-in kinds: defaults, validation and table rows that go beyond the schema."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from finetune_local.apiserver.builtin import (
    events,
    jobs,
    pod_spec,
    services,
    storage_and_config,
    webhook_configurations,
    workloads,
)
from finetune_local.apiserver.custom.definition import definition_errors, fill_names
from finetune_local.apiserver.resource_type import ResourceType
from finetune_local.apiserver.revision_store import RevisionStore
from finetune_local.apiserver.status_error import Cause
from finetune_local.apiserver.tables.builtin_rows import TABLES

Object = dict[str, Any]
Defaults = Callable[[Object, Object | None], None]
Check = Callable[[Object, Object | None], list[Cause]]
CORE_EVENTS = ("", "events")

DEFAULTS: dict[tuple[str, str], Defaults] = {
    ("", "pods"): pod_spec.default_pod,
    ("", "namespaces"): storage_and_config.default_namespace,
    ("", "secrets"): storage_and_config.default_secret,
    ("", "persistentvolumeclaims"): storage_and_config.default_claim,
    ("", "persistentvolumes"): storage_and_config.default_volume,
    ("", "events"): events.default_core_event,
    ("events.k8s.io", "events"): events.default_new_event,
    ("apps", "deployments"): workloads.default_deployment,
    ("apps", "replicasets"): workloads.default_replica_set,
    ("apps", "statefulsets"): workloads.default_workload,
    ("apps", "daemonsets"): workloads.default_workload,
    ("batch", "jobs"): jobs.default_job,
    ("batch", "cronjobs"): jobs.default_cron_job,
    ("apiextensions.k8s.io", "customresourcedefinitions"): fill_names,
}
CHECKS: dict[tuple[str, str], Check] = {
    ("", "pods"): pod_spec.check_pod,
    ("", "configmaps"): storage_and_config.check_config_map,
    ("", "secrets"): storage_and_config.check_secret,
    ("", "persistentvolumeclaims"): storage_and_config.check_claim,
    ("", "services"): services.check_service,
    ("apps", "deployments"): workloads.check_deployment,
    ("apps", "replicasets"): workloads.check_workload,
    ("apps", "statefulsets"): workloads.check_workload,
    ("apps", "daemonsets"): workloads.check_workload,
    ("batch", "jobs"): jobs.check_job,
    ("batch", "cronjobs"): jobs.check_cron_job,
    ("apiextensions.k8s.io", "customresourcedefinitions"): definition_errors,
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): webhook_configurations.check_webhooks,
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): webhook_configurations.check_webhooks,
}


def with_strategy(resource: ResourceType, store: RevisionStore) -> ResourceType:
    """The kind with its hooks, by its own group and plural."""
    key = (resource.group, resource.plural)
    columns, row = TABLES.get(key, ((), None))
    resource = replace(
        resource,
        set_defaults=DEFAULTS.get(key, resource.set_defaults),
        check=CHECKS.get(key, resource.check),
        columns=columns,
        row=row,
        keeps_new_status=key == ("", "nodes"),
    )
    if key == ("", "services"):
        return replace(resource, set_defaults=services.service_defaults(store))
    if key == ("events.k8s.io", "events"):
        return replace(resource, storage=CORE_EVENTS, to_storage=events.to_core, from_storage=events.from_core)
    return resource
