"""The webhooks of an operator that runs beside its cluster: reached by URL instead of by Service."""

from typing import Any

from finetune_api.crds import CUSTOM_RESOURCES
from finetune_api.names import GROUP, VERSION
from finetune_operator.cli.ports import free_port
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.resources import (
    MUTATING_WEBHOOK_CONFIGURATIONS,
    SECRETS,
    VALIDATING_WEBHOOK_CONFIGURATIONS,
    Kind,
)

HOST = "127.0.0.1"
NAMESPACE, NAME = "kube-system", "finetune-operator-webhooks"
MANAGER = "finetune-operator-local"
PATHS = {VALIDATING_WEBHOOK_CONFIGURATIONS: "validate", MUTATING_WEBHOOK_CONFIGURATIONS: "default"}


async def register_webhooks(api: KubeApi) -> list[str]:
    """Makes the objects that the chart makes; returns the options for `finetune-operator run`."""
    port = free_port(HOST)
    for kind, path in PATHS.items():
        await api.apply(kind, _configuration(kind, path, port), field_manager=MANAGER)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME, "namespace": NAMESPACE}}
    await api.apply(SECRETS, secret, field_manager=MANAGER)
    return [
        "--webhook-port", str(port), "--webhook-secret", f"{NAMESPACE}/{NAME}",
        "--webhook-configuration", NAME, "--webhook-names", HOST,
    ]  # fmt: skip


def _configuration(kind: Kind, path: str, port: int) -> dict[str, Any]:
    rule = {
        "apiGroups": [GROUP],
        "apiVersions": [VERSION],
        "operations": ["CREATE", "UPDATE"],
        "resources": [resource.plural for resource in CUSTOM_RESOURCES],
    }
    hook = {
        "name": f"{path}.{GROUP}",
        "clientConfig": {"url": f"https://{HOST}:{port}/{path}"},
        "rules": [rule],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        # The operator is started again when it dies; meanwhile its reconciler judges what comes in.
        "failurePolicy": "Ignore",
        "timeoutSeconds": 5,
    }
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": NAME},
        "webhooks": [hook],
    }
