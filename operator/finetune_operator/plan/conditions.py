"""metav1.Conditions as plain dicts: the time of a transition moves only when the status does."""

from typing import Any

Condition = dict[str, Any]


def find_condition(conditions: list[Condition] | None, type_: str) -> Condition | None:
    """The condition of that type, or None."""
    for condition in conditions or ():
        if condition.get("type") == type_:
            return condition
    return None


def is_true(conditions: list[Condition] | None, type_: str) -> bool:
    """Whether the condition is there with status True."""
    found = find_condition(conditions, type_)
    return bool(found and found.get("status") == "True")


def with_condition(
    conditions: list[Condition] | None,
    type_: str,
    status: bool | None,
    reason: str,
    message: str,
    *,
    now: str,
    generation: int,
) -> list[Condition]:
    """A new list with this condition set in place, or appended. `status` None means Unknown."""
    old = list(conditions or ())
    text = "Unknown" if status is None else str(status)
    before = find_condition(old, type_)
    moved = before is None or before.get("status") != text
    fresh = {
        "type": type_,
        "status": text,
        "reason": reason,
        "message": message,
        "lastTransitionTime": now if moved or before is None else before.get("lastTransitionTime", now),
        "observedGeneration": generation,
    }
    if before is None:
        return [*old, fresh]
    return [fresh if c is before else c for c in old]
