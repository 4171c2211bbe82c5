"""podFailurePolicy: which rule a failed pod matches (KEP-3329)."""

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

FAIL_JOB = "FailJob"
FAIL_INDEX = "FailIndex"
IGNORE = "Ignore"
COUNT = "Count"


@dataclass(frozen=True)
class Verdict:
    action: str = COUNT
    message: str = ""


def judge(policy: Object | None, pod: Object) -> Verdict:
    """Action of the first matching rule; Count when none matches."""
    for number, rule in enumerate((policy or {}).get("rules") or []):
        what = _by_exit_code(rule, pod) or _by_condition(rule, pod)
        if what:
            return Verdict(rule["action"], f"{what} matching {rule['action']} rule at index {number}")
    return Verdict()


def _by_exit_code(rule: Object, pod: Object) -> str:
    wanted = rule.get("onExitCodes")
    if not wanted:
        return ""
    status = pod.get("status") or {}
    containers = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
    for container in containers:
        code = ((container.get("state") or {}).get("terminated") or {}).get("exitCode", 0)
        if code == 0 or wanted.get("containerName") not in (None, container["name"]):
            continue
        if (code in wanted["values"]) == (wanted["operator"] == "In"):
            return f"Container {container['name']} for pod {_name(pod)} failed with exit code {code}"
    return ""


def _by_condition(rule: Object, pod: Object) -> str:
    present = {one["type"]: one["status"] for one in (pod.get("status") or {}).get("conditions") or []}
    for pattern in rule.get("onPodConditions") or []:
        if present.get(pattern["type"]) == pattern.get("status", "True"):
            return f"Pod {_name(pod)} has condition {pattern['type']}"
    return ""


def _name(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
