"""How long the pods of a gang stay on a node that is not well.

Without these the API server adds tolerations of 300 seconds (DefaultTolerationSeconds), in which all the other pods
wait for one that is gone: https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/.
"""

from typing import Any

NODE_TROUBLES = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
TOLERATION_SECONDS = 30
"""On top of the 40 to 50 seconds after which a silent node is marked. A kubelet that restarts is back sooner."""
Toleration = dict[str, Any]


def with_node_tolerations(tolerations: list[Toleration]) -> list[Toleration]:
    """The same, and ours for each trouble about which they say nothing."""
    missing = [key for key in NODE_TROUBLES if not any(_covers(one, key) for one in tolerations)]
    return [*tolerations, *(_toleration(key) for key in missing)]


def _covers(toleration: Toleration, key: str) -> bool:
    effect = toleration.get("effect") or "NoExecute"
    return effect == "NoExecute" and toleration.get("key") in (key, None, "")


def _toleration(key: str) -> Toleration:
    return {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS}
