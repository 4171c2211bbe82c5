"""The webhooks of an operator that runs beside its cluster: reached by URL instead of by Service."""

from collections.abc import Sequence
from typing import Any

from finetune_operator.cli.local_installation import MANAGER, WATCHED, WEBHOOKS, manifests
from finetune_operator.cli.ports import LOOPBACK, free_port
from finetune_operator.kube.client import KubeApi


async def register_webhooks(api: KubeApi, namespaces: Sequence[str] = ()) -> list[str]:
    """Makes the objects that the chart makes; returns the options for `finetune-operator run`."""
    port, names = free_port(), set()
    for body in manifests(WEBHOOKS, namespaces):
        hooks = [_hook(hook, port, namespaces) for hook in body.get("webhooks", ())]
        changed = body | ({"webhooks": hooks} if hooks else {})
        names.add(body["metadata"]["name"])
        await api.apply(WEBHOOKS[body["kind"]], changed, field_manager=MANAGER)
    (name,) = names
    return ["--webhook-port", str(port), "--webhook-configuration", name]


def _hook(hook: dict[str, Any], port: int, namespaces: Sequence[str]) -> dict[str, Any]:
    path = hook["clientConfig"]["service"]["path"]
    changes: dict[str, Any] = {"clientConfig": {"url": f"https://{LOOPBACK}:{port}{path}"}}
    if selector := hook.get("namespaceSelector"):
        chosen = [
            one | {"values": list(namespaces)} for one in selector["matchExpressions"] if WATCHED in one["values"]
        ]
        changes["namespaceSelector"] = {"matchExpressions": chosen}
    return hook | changes
