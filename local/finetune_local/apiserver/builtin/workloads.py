"""apps/v1: Deployments, ReplicaSets, StatefulSets and DaemonSets."""

from typing import Any

from finetune_local.apiserver.builtin.pod_spec import check_template, default_template
from finetune_local.apiserver.status_error import Cause, invalid_value, required, unsupported_value

Object = dict[str, Any]


def default_workload(new: Object, old: Object | None) -> None:
    default_template(new.setdefault("spec", {}))
    if old is None:
        new["status"] = {}


def default_deployment(new: Object, old: Object | None) -> None:
    default_workload(new, old)
    strategy = new["spec"].setdefault("strategy", {"type": "RollingUpdate"})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")


def default_replica_set(new: Object, old: Object | None) -> None:
    default_workload(new, old)
    if old is None:
        new["status"] = {"replicas": 0}


def check_workload(new: Object, old: Object | None) -> list[Cause]:
    spec = new["spec"]
    selector = spec.get("selector")
    errors = check_template(spec, selector)
    if not selector:
        errors.append(required("spec.selector"))
    elif not selector.get("matchLabels") and not selector.get("matchExpressions"):
        errors.append(invalid_value("spec.selector", selector, "empty selector is invalid for this workload"))
    policy = spec["template"]["spec"].get("restartPolicy")
    if policy != "Always":
        errors.append(unsupported_value("spec.template.spec.restartPolicy", policy, ["Always"]))
    if old is not None and spec.get("selector") != old["spec"].get("selector"):
        errors.append(invalid_value("spec.selector", selector, "field is immutable"))
    return errors


def check_deployment(new: Object, old: Object | None) -> list[Cause]:
    errors = check_workload(new, old)
    spec = new["spec"]
    strategy = spec["strategy"]
    rolling = strategy.get("rollingUpdate") or {}
    if strategy["type"] == "Recreate" and rolling:
        text = "may not be specified when strategy `type` is 'Recreate'"
        errors.append(Cause("FieldValueForbidden", f"Forbidden: {text}", "spec.strategy.rollingUpdate"))
    if is_zero(rolling.get("maxUnavailable")) and is_zero(rolling.get("maxSurge")) and strategy["type"] != "Recreate":
        text = "may not be 0 when `maxSurge` is 0"
        errors.append(invalid_value("spec.strategy.rollingUpdate.maxUnavailable", rolling.get("maxUnavailable"), text))
    if spec.get("progressDeadlineSeconds", 600) <= spec.get("minReadySeconds", 0):
        text = "must be greater than minReadySeconds"
        errors.append(invalid_value("spec.progressDeadlineSeconds", spec["progressDeadlineSeconds"], text))
    return errors


def is_zero(value: Any) -> bool:
    return value in (0, "0", "0%")
