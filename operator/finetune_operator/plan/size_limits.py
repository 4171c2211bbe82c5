"""How large a spec may be: no object may keep what judges, caches and plans them from all the others."""

from typing import Any

import orjson

SPEC_BYTES = 256 * 1024
"""Of JSON. A FineTuneJob is a few KiB, with a pod template perhaps 20."""
NESTING = 64
"""Levels. Pod templates have about 12; what writes JSON stops at 254."""


def too_large(spec: Any) -> str | None:
    """What is wrong with the size of a spec."""
    if nested_deeper_than(NESTING, spec):
        return f"nested more than {NESTING} levels deep; take what is too deep out of it"
    try:
        size = len(orjson.dumps(spec))
    except TypeError as error:
        return f"is no JSON of the Kubernetes API: {error}"
    if size > SPEC_BYTES:
        return f"{size // 1024} KiB of JSON, and at most {SPEC_BYTES // 1024} are read; shorten it"
    return None


def nested_deeper_than(levels: int, value: Any) -> bool:
    """Level by level, since what is nested deeply cannot be gone through by recursion."""
    layer = [value]
    for _ in range(levels):
        layer = [inner for one in layer for inner in _inside(one)]
        if not layer:
            return False
    return any(isinstance(one, (dict, list)) for one in layer)


def _inside(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
