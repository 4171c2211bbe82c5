"""What a node says of a pod: the kubelet of one that it evicts, the container runtime of one that it cannot start.

Kubelet: https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/eviction/helpers.go. The runtimes' words have
no specification; tests/plan/pod_statuses has what they say.
"""

import re
from decimal import Decimal

from finetune_operator.kube.quantities import parse_quantity

OWN_LIMIT = re.compile(r"(Usage of EmptyDir volume|ephemeral local storage usage) .*exceeds", re.DOTALL)
PRESSURE = re.compile(r"low on resource: (?P<resource>memory|ephemeral-storage)")
QUANTITY = r"\d[\d.]*[A-Za-z]*"
THRESHOLD = re.compile(rf"Threshold quantity: ({QUANTITY})")
OLD_THRESHOLD = Decimal(2**30)
"""Kubelets before 1.26 do not tell it."""
USE = re.compile(rf"was using ({QUANTITY}), (?:request is|which exceeds its request of) ({QUANTITY})")
PROGRAM_MISSING = re.compile(
    r"exec: \S+: (executable file not found|(stat \S+: )?(no such file|permission denied|exec format|is a directory))"
    r"|exec \S+: exec format error"
    r"|chdir to cwd .* failed: (no such file|permission denied|not a directory)"
    # crun
    r"|executable file \S+ not found|exec container process \S+: (no such file|permission denied|exec format)",
    re.IGNORECASE | re.DOTALL,
)
NODES_OWN = re.compile(r"retrieve OCI runtime error|running (\w+ )?hook", re.IGNORECASE)
"""The program that is missing is one of the node: its OCI runtime, or a hook such as NVIDIA's."""


def used_up(words: str) -> str | None:
    """The resource, memory or ephemeral-storage, that a node ran short of by an evicted pod's own doing; else None.

    The kubelet names each container that uses more than it requests, be it by 80 KiB of an empty request; the doing is
    a pod's own where that is more than all that the node wants to keep free.
    """
    short = PRESSURE.search(words)
    if short is None:
        return None
    told = THRESHOLD.search(words)
    threshold = parse_quantity(told[1]) if told else OLD_THRESHOLD
    excess = [parse_quantity(use[1]) - parse_quantity(use[2]) for use in USE.finditer(words)]
    return short["resource"] if excess and max(excess) > threshold else None


def over_its_limit(words: str) -> bool:
    """Whether it was evicted for more scratch space than its own spec allows."""
    return OWN_LIMIT.search(words) is not None


def program_missing(words: str) -> bool:
    """Whether a container could not be started for what its image is; else the node is to blame, or its GPU driver."""
    return PROGRAM_MISSING.search(words) is not None and NODES_OWN.search(words) is None
