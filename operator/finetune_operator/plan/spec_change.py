"""Edits of a job that has started: noticed, said, and not followed."""

from typing import Any

from pydantic import ValidationError

from finetune_api.fine_tune_job import MUTABLE_AFTER_START, FineTuneJobSpec

NAMED_FIELDS = 5


def changed_fields(started: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """Paths of what differs between the spec that a job runs with and the one that it has now."""
    if started == current:
        return []
    before, after = _comparable(started), _comparable(current)
    return sorted(_differences(before, after, "spec"))


def ignored_message(paths: list[str]) -> str:
    """What to tell about such an edit."""
    named = ", ".join(paths[:NAMED_FIELDS])
    more = f" and {len(paths) - NAMED_FIELDS} more" if len(paths) > NAMED_FIELDS else ""
    return (
        f"{named}{more} changed after the start: ignored, the job keeps what it started with; create a new "
        f"FineTuneJob to train with the change. Only {', '.join(MUTABLE_AFTER_START)} may change."
    )


def _comparable(spec: dict[str, Any]) -> dict[str, Any]:
    """With every default filled in, so that a default that a newer schema adds is no change."""
    try:
        full = FineTuneJobSpec.model_validate(spec).wire()
    except ValidationError:
        full = spec
    return {name: value for name, value in full.items() if name not in MUTABLE_AFTER_START}


def _differences(before: Any, after: Any, path: str) -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        names = before.keys() | after.keys()
        return [
            difference
            for name in names
            for difference in _differences(before.get(name), after.get(name), f"{path}.{name}")
        ]
    return [] if before == after else [path]
