"""Restart budgets and back-off: each cause counts for itself, against the limit of its class."""

from hashlib import sha256
from typing import Any

from finetune_api.failure_policy import FailurePolicy
from finetune_operator.plan.causes import class_of

MAX_BACKOFF_SECONDS = 300.0
JITTER = 0.2


def allowed_restarts(policy: FailurePolicy, cause: str) -> int:
    """After this cause."""
    limits = policy.max_restarts.wire()
    return int(limits[class_of(cause)])


def used_restarts(status: dict[str, Any], cause: str) -> int:
    """After this cause, so far."""
    return int((status.get("restarts") or {}).get("byCause", {}).get(cause, 0))


def count_restart(status: dict[str, Any], cause: str) -> int:
    """Counts one more, and returns how many there were after this cause."""
    known = status.get("restarts") or {}
    used = used_restarts(status, cause) + 1
    status["restarts"] = {"total": known.get("total", 0) + 1, "byCause": known.get("byCause", {}) | {str(cause): used}}
    return used


def backoff_seconds(policy: FailurePolicy, restarts: int, uid: str, attempt: int) -> float:
    """Wait before the n-th restart after a cause: doubles each time, up to five minutes, ± a fifth.

    The jitter spreads the gangs of many jobs that one broken switch ended together. It comes from the job and the
    attempt, so that a plan that is made twice is the same plan.
    """
    wait: float = min(policy.backoff_seconds * 2 ** min(restarts - 1, 32), MAX_BACKOFF_SECONDS)
    chance = int(sha256(f"{uid}/{attempt}".encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
    return round(wait * (1 + JITTER * (2 * chance - 1)), 1)
