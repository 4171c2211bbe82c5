"""Whether a pod fits on a node: pure arithmetic on resource requests, selectors and taints."""

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from finetune_operator.kube.quantities import parse_quantity

Object = dict[str, Any]
Amounts = dict[str, Decimal]


def requests(pod: Object) -> Amounts:
    """What the pod asks for: the sum of its containers, or the largest init container where that is more."""
    total: Amounts = defaultdict(Decimal)
    for container in pod["spec"]["containers"]:
        for name, amount in _of_container(container).items():
            total[name] += amount
    for container in pod["spec"].get("initContainers") or []:
        for name, amount in _of_container(container).items():
            total[name] = max(total[name], amount)
    for name, amount in (pod["spec"].get("overhead") or {}).items():
        total[name] += parse_quantity(amount)
    total["pods"] = Decimal(1)
    return dict(total)


def _of_container(container: Object) -> Amounts:
    """A resource with a limit but no request asks for the limit."""
    resources = container.get("resources") or {}
    merged = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: parse_quantity(amount) for name, amount in merged.items()}


def used(pods: Iterable[Object]) -> dict[str, Amounts]:
    """Node → what the pods on it ask for."""
    nodes: dict[str, Amounts] = defaultdict(lambda: defaultdict(Decimal))
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if node and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            for name, amount in requests(pod).items():
                nodes[node][name] += amount
    return nodes


def obstacles(pod: Object, node: Object, taken: Amounts) -> list[str]:
    """Why the pod cannot run on this node, in the scheduler's words; empty when it can."""
    spec = node.get("spec") or {}
    if spec.get("unschedulable"):
        return ["node(s) were unschedulable"]
    for taint in spec.get("taints") or []:
        if taint["effect"] != "PreferNoSchedule" and not _tolerates(pod, taint):
            return [f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"]
    labels = node["metadata"].get("labels") or {}
    selector = pod["spec"].get("nodeSelector") or {}
    if any(labels.get(key) != value for key, value in selector.items()):
        return ["node(s) didn't match Pod's node affinity/selector"]
    allocatable = node["status"]["allocatable"]
    return [
        "Too many pods" if name == "pods" else f"Insufficient {name}"
        for name, amount in sorted(requests(pod).items())
        if amount > 0 and taken.get(name, Decimal(0)) + amount > parse_quantity(allocatable.get(name, 0))
    ]


def _tolerates(pod: Object, taint: Object) -> bool:
    for toleration in pod["spec"].get("tolerations") or []:
        same_key = toleration.get("key") in (None, "", taint["key"])
        same_value = toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")
        if same_key and same_value and toleration.get("effect") in (None, "", taint["effect"]):
            return True
    return False


def choose(pod: Object, nodes: list[Object], taken: dict[str, Amounts]) -> tuple[str | None, str]:
    """The node with the fewest pods that has room; or None and the message of the FailedScheduling event."""
    reasons: dict[str, int] = defaultdict(int)
    fitting = []
    for node in nodes:
        name = node["metadata"]["name"]
        against = obstacles(pod, node, taken.get(name, {}))
        for reason in against:
            reasons[reason] += 1
        if not against:
            fitting.append((taken.get(name, {}).get("pods", Decimal(0)), name))
    if fitting:
        return min(fitting)[1], ""
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return None, f"0/{len(nodes)} nodes are available: {listed or 'no nodes'}."
