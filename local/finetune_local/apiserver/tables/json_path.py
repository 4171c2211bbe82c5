"""JSONPath as kubectl and CRDs use it: `.spec.a`, `['a.b']`, `[0]`, `[*]`, `[?(@.type=="Ready")].status`."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

STEP = re.compile(
    r"""\.(?P<field>(?:\\.|[^.\[\]\\])+)|\[(?P<quote>['"])(?P<quoted>.*?)(?P=quote)\]|\[(?P<index>-?\d+)\]|\[(?P<all>\*)\]"""
    r"""|\[\?\(@\.(?P<key>[^=!<>\s]+)\s*(?P<operator>==|!=)\s*(?P<mark>['"]?)(?P<value>[^'"\)]*)(?P=mark)\)\]"""
)


@lru_cache(maxsize=1024)
def parse(path: str) -> tuple[dict[str, str | None], ...]:
    """Raises ValueError at the first step that is not understood."""
    path = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    if path and path[0] not in ".[":
        path = "." + path
    steps = []
    position = 0
    while position < len(path):
        match = STEP.match(path, position)
        if match is None:
            raise ValueError(f"unsupported JSONPath at {path[position:]!r} of {path!r}")
        steps.append(match.groupdict())
        position = match.end()
    return tuple(steps)


def find(body: Any, path: str) -> list[Any]:
    """All values at the path; none where something is missing."""
    found = [body]
    for step in parse(path):
        found = [value for item in found for value in _step(item, step)]
    return found


def _step(item: Any, step: dict[str, str | None]) -> Iterator[Any]:
    name = step["field"] or step["quoted"]
    if name is not None:
        name = name.replace("\\.", ".")
        if name == "*" and isinstance(item, dict):
            yield from item.values()
        elif isinstance(item, dict) and name in item:
            yield item[name]
    elif isinstance(item, list):
        yield from _items(item, step)


def _items(items: list[Any], step: dict[str, str | None]) -> Iterator[Any]:
    if step["all"]:
        yield from items
    elif step["index"] is not None:
        index = int(step["index"])
        if -len(items) <= index < len(items):
            yield items[index]
    else:
        yield from (item for item in items if _matches(item, step))


def _matches(item: Any, step: dict[str, str | None]) -> bool:
    values = find(item, "." + str(step["key"])) if isinstance(item, dict) else []
    equal = bool(values) and str(values[0]) == step["value"]
    return equal == (step["operator"] == "==")
