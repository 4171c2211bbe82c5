"""How far a Deployment may scale its ReplicaSets at this moment. Pure."""

import hashlib
import math
from typing import Any

import orjson

Object = dict[str, Any]

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
_SAFE = "bcdfghjklmnpqrstvwxz2456789"


def template_of(replica_set: Object) -> Object:
    """The Deployment's template that made this ReplicaSet."""
    template: Object = orjson.loads(orjson.dumps(replica_set["spec"]["template"]))
    template.get("metadata", {}).get("labels", {}).pop(HASH_LABEL, None)
    return template


def template_hash(template: Object, collisions: int = 0) -> str:
    digest = hashlib.sha256(orjson.dumps([template, collisions], option=orjson.OPT_SORT_KEYS)).digest()
    return "".join(_SAFE[byte % len(_SAFE)] for byte in digest[:10])


def resolve(value: int | str | None, total: int, default: str, *, round_up: bool) -> int:
    """An int-or-percent field as a number of pods."""
    value = default if value is None else value
    if isinstance(value, int) or not str(value).endswith("%"):
        return int(value)
    share = int(str(value)[:-1]) * total / 100
    return math.ceil(share) if round_up else math.floor(share)


def limits(deployment: Object) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in pods; both zero would mean no progress, so one may then be unavailable."""
    wanted = replicas_of(deployment)
    strategy = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    surge = resolve(strategy.get("maxSurge"), wanted, "25%", round_up=True)
    unavailable = resolve(strategy.get("maxUnavailable"), wanted, "25%", round_up=False)
    return surge, 1 if surge == 0 and unavailable == 0 else unavailable


def replicas_of(owner: Object) -> int:
    found = owner["spec"].get("replicas")
    return 1 if found is None else int(found)


def available_of(replica_set: Object) -> int:
    return int((replica_set.get("status") or {}).get("availableReplicas", 0))


def plan_scales(deployment: Object, new: Object, old: list[Object]) -> dict[str, int]:
    """Name of the ReplicaSet → replicas, for those that should change now."""
    if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
        return _recreate(deployment, new, old)
    return _rolling(deployment, new, old)


def _recreate(deployment: Object, new: Object, old: list[Object]) -> dict[str, int]:
    """All old pods go before the first new one comes; the caller watches that none is left."""
    scales = {one["metadata"]["name"]: 0 for one in old if replicas_of(one) > 0}
    remaining = any((one.get("status") or {}).get("replicas", 0) or _terminating(one) for one in old)
    if not scales and not remaining and replicas_of(new) != replicas_of(deployment):
        scales[new["metadata"]["name"]] = replicas_of(deployment)
    return scales


def _terminating(replica_set: Object) -> int:
    return int((replica_set.get("status") or {}).get("terminatingReplicas", 0))


def _rolling(deployment: Object, new: Object, old: list[Object]) -> dict[str, int]:
    wanted = replicas_of(deployment)
    surge, unavailable = limits(deployment)
    scales: dict[str, int] = {}
    total = replicas_of(new) + sum(map(replicas_of, old))
    target = replicas_of(new)
    if target > wanted:
        target = wanted
    elif target < wanted and total < wanted + surge:
        target = min(wanted, target + wanted + surge - total)
    if target != replicas_of(new):
        scales[new["metadata"]["name"]] = target
    scales.update(_shrink(new, old, wanted - unavailable))
    return scales


def _shrink(new: Object, old: list[Object], minimum: int) -> dict[str, int]:
    """Old ReplicaSets lose first their unhealthy pods, then as many as availability allows."""
    total = replicas_of(new) + sum(map(replicas_of, old))
    pending = replicas_of(new) - available_of(new)
    room = total - minimum - pending
    scales: dict[str, int] = {}
    for one in old:
        unhealthy = min(room, replicas_of(one) - available_of(one))
        if unhealthy > 0:
            scales[one["metadata"]["name"]] = replicas_of(one) - unhealthy
            room -= unhealthy
    spare = available_of(new) + sum(map(available_of, old)) - minimum
    for one in old:
        left = scales.get(one["metadata"]["name"], replicas_of(one))
        cut = min(spare, left, room)
        if cut > 0:
            scales[one["metadata"]["name"]] = left - cut
            spare, room = spare - cut, room - cut
    return scales
