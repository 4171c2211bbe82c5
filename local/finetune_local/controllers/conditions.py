"""Status conditions of workloads, in the order in which they were added."""

from typing import Any

from finetune_local import timestamps

Object = dict[str, Any]


def find(conditions: list[Object], kind: str) -> Object | None:
    return next((one for one in conditions if one["type"] == kind), None)


def is_true(conditions: list[Object], kind: str) -> bool:
    found = find(conditions, kind)
    return found is not None and found["status"] == "True"


def with_condition(
    conditions: list[Object], kind: str, status: str, reason: str = "", message: str = "", *, probe: str = ""
) -> list[Object]:
    """The list with this condition set; lastTransitionTime moves only when the status does.

    `probe` is the second time field of the kind: lastProbeTime (Jobs, pods) or lastUpdateTime (Deployments).
    """
    before = find(conditions, kind)
    if before and (before["status"], before.get("reason"), before.get("message")) == (status, reason, message):
        return conditions
    moment = timestamps.now()
    same = before is not None and before["status"] == status
    made = {
        "type": kind,
        "status": status,
        "lastTransitionTime": before["lastTransitionTime"] if before is not None and same else moment,
        "reason": reason,
        "message": message,
    }
    if probe:
        made[probe] = moment
    if before is None:
        return [*conditions, made]
    return [made if one["type"] == kind else one for one in conditions]
