"""The restricted Pod Security Standard, with a read-only root on top.

https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
"""

from typing import Any

TRAINER_GROUP = 65532
"""Group that owns the volumes; the images run as this user."""


def pod_security_context() -> dict[str, Any]:
    """Of the pod: never root, the runtime's seccomp filter, volumes writable for the group."""
    return {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "fsGroup": TRAINER_GROUP,
        "fsGroupChangePolicy": "OnRootMismatch",
    }


def container_security_context() -> dict[str, Any]:
    """Of each container: no capability, no escalation, nothing writable but the volumes."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
