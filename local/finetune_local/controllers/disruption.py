"""PodDisruptionBudgets: how many pods an eviction may take now."""

from typing import Any

from finetune_local.controllers.conditions import with_condition
from finetune_local.controllers.owned_pods import is_finished, is_terminating
from finetune_local.controllers.rollout import replicas_of, resolve
from finetune_local.network.names import is_ready
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.controller import Controller, Key, Result
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.resources import POD_DISRUPTION_BUDGETS

Object = dict[str, Any]


class DisruptionController:
    """Only `matchLabels` selectors and pods of ReplicaSets (by their replicas) or bare pods (by their number)."""

    def __init__(self, api: KubeApi, budgets: Informer, pods: Informer, replica_sets: Informer) -> None:
        self._api = api
        self._budgets = budgets
        self._pods = pods
        self._replica_sets = replica_sets
        self.controller = Controller("disruption", self.reconcile, workers=1)
        self.controller.watch(budgets)
        self.controller.watch(pods, self._budgets_of)

    def _budgets_of(self, pod: Object) -> list[Key]:
        return [
            (budget["metadata"]["namespace"], budget["metadata"]["name"])
            for budget in self._budgets.list()
            if covers(budget, pod)
        ]

    async def reconcile(self, key: Key) -> Result | None:
        budget = self._budgets.get(*key)
        if budget is None:
            return None
        pods = [pod for pod in self._pods.by_index("namespace", key[0]) if covers(budget, pod) and not is_finished(pod)]
        status = budget_status(budget, pods, self._expected(pods))
        if status != budget.get("status"):
            await self._api.replace_status(POD_DISRUPTION_BUDGETS, {**budget, "status": status})
        return None

    def _expected(self, pods: list[Object]) -> int:
        sets: dict[str, int] = {}
        bare = 0
        for pod in pods:
            owner = next((one for one in pod["metadata"].get("ownerReferences") or [] if one.get("controller")), None)
            found = self._replica_sets.get(pod["metadata"]["namespace"], owner["name"]) if owner else None
            if owner and found:
                sets[owner["uid"]] = replicas_of(found)
            else:
                bare += 1
        return sum(sets.values()) + bare


def covers(budget: Object, pod: Object) -> bool:
    """Whether the budget's selector matches; an empty selector matches the whole namespace."""
    if budget["metadata"]["namespace"] != pod["metadata"]["namespace"]:
        return False
    labels = pod["metadata"].get("labels") or {}
    wanted = ((budget["spec"].get("selector") or {}).get("matchLabels") or {}).items()
    return bool(wanted <= labels.items())


def budget_status(budget: Object, pods: list[Object], expected: int) -> Object:
    spec, before = budget["spec"], budget.get("status") or {}
    healthy = sum(is_ready(pod) and not is_terminating(pod) for pod in pods)
    if spec.get("maxUnavailable") is not None:
        desired = max(0, expected - resolve(spec["maxUnavailable"], expected, "0", round_up=True))
    else:
        desired = resolve(spec.get("minAvailable"), expected, "1", round_up=True)
    allowed = max(0, healthy - desired) if expected else 0
    reason = "SufficientPods" if allowed else "InsufficientPods"
    conditions = with_condition(
        before.get("conditions") or [], "DisruptionAllowed", "True" if allowed else "False", reason
    )
    return {
        "disruptionsAllowed": allowed,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "observedGeneration": budget["metadata"].get("generation", 1),
        "conditions": conditions,
    }
