"""The places that a job reads: one list of the fields that name them."""

from collections.abc import Iterator, Mapping
from typing import Any

from finetune_api.fine_tune_job import FineTuneJobSpec

MODEL_VERSION = "modelversion://"
EACH = "[]"
"""In a path: every element of a list."""
Path = tuple[str, ...]
READ_FIELDS: tuple[Path, ...] = (
    ("model", "source"),
    ("dataset", "train", "source"),
    ("dataset", "validation", "source"),
    ("dataset", "test", "source"),
    ("dataset", "augmentation", "text", "synonyms", "source"),
    ("dataset", "subtasks", EACH, "train", "source"),
    ("dataset", "subtasks", EACH, "validation", "source"),
    ("dataset", "subtasks", EACH, "test", "source"),
    ("dataset", "subtasks", EACH, "augmentation", "text", "synonyms", "source"),
    ("training", "distillation", "teacher"),
    ("training", "reinforcement", "rewards", EACH, "model", "source"),
    ("postprocess", EACH, "average", "models", EACH),
)
"""Below `spec`. All are single words, so that attribute and field have the same name."""


def read_places(spec: FineTuneJobSpec) -> list[tuple[str, str]]:
    """Field and URI of each."""
    return list(_values(spec))


def named_versions(spec: dict[str, Any]) -> list[str]:
    """Names of the ModelVersions that a spec, not yet validated, reads."""
    return [uri.removeprefix(MODEL_VERSION) for _, uri in _values(spec) if uri.startswith(MODEL_VERSION)]


def with_places(spec: FineTuneJobSpec, found: Mapping[str, str]) -> FineTuneJobSpec:
    """The same with places replaced; the parts that name none of them are shared."""
    for path in READ_FIELDS:
        spec = _replaced(spec, path, found)
    return spec


def _values(spec: FineTuneJobSpec | dict[str, Any]) -> Iterator[tuple[str, str]]:
    return (one for path in READ_FIELDS for one in _below(spec, path, "spec"))


def _below(item: Any, path: Path, field: str) -> Iterator[tuple[str, str]]:
    """Whatever is no model, dict or list where one is due, leads nowhere."""
    if not path:
        if isinstance(item, str):
            yield field, item
    elif path[0] == EACH:
        for number, one in enumerate(item if isinstance(item, list) else ()):
            yield from _below(one, path[1:], f"{field}[{number}]")
    else:
        inner = item.get(path[0]) if isinstance(item, dict) else getattr(item, path[0], None)
        yield from _below(inner, path[1:], f"{field}.{path[0]}")


def _replaced(item: Any, path: Path, found: Mapping[str, str]) -> Any:
    if item is None:
        return None
    if not path:
        return found.get(item, item)
    if path[0] == EACH:
        replaced = [_replaced(one, path[1:], found) for one in item]
        return item if replaced == item else replaced
    before = getattr(item, path[0])
    after = _replaced(before, path[1:], found)
    return item if after is before else item.model_copy(update={path[0]: after})
