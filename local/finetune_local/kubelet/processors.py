"""Which processors a container may use: as many as its CPU limit, rounded up.

A cluster enforces the limit by a cgroup quota, for which one needs root. A CPU set tells the program the same thing:
how many threads are worth starting. Without it two pods on two cores start four busy threads.
"""

import math
from collections.abc import Sequence
from typing import Any

from finetune_operator.kube.quantities import parse_quantity


def allowed_processors(container: dict[str, Any], ip: str, available: Sequence[int]) -> list[int]:
    """A part of `available`; pods with neighbouring addresses, as in a gang, get different ones."""
    limit = ((container.get("resources") or {}).get("limits") or {}).get("cpu")
    wanted = math.ceil(parse_quantity(limit)) if limit is not None else len(available)
    if not 0 < wanted < len(available):
        return list(available)
    start = int(ip.rpartition(".")[2]) * wanted
    return sorted(available[(start + offset) % len(available)] for offset in range(wanted))
