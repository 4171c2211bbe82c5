"""Label and field selectors, parsed as apimachinery does."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune_local.apiserver.status_error import bad_request
from finetune_local.apiserver.string_formats import label_value_error, qualified_name_error

Object = dict[str, Any]
SET_REQUIREMENT = re.compile(r"\s*(\S+?)\s+(in|notin)\s*\(([^)]*)\)\s*\Z")
COMPARISON = re.compile(r"\s*([^=!<>\s]+)\s*(==|!=|=|>|<)\s*([^=!<>]*?)\s*\Z")


@dataclass(frozen=True)
class Requirement:
    key: str
    operator: str  # In, NotIn, Exists, DoesNotExist, Gt, Lt
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
        return value is not None and _compare(value, self.operator, self.values[0])


def _compare(value: str, operator: str, bound: str) -> bool:
    try:
        return int(value) > int(bound) if operator == "Gt" else int(value) < int(bound)
    except ValueError:
        return False


def parse_label_selector(text: str) -> tuple[Requirement, ...]:
    """`a=b,c!=d,e in (f,g),h,!i`. Raises BadRequest that names the offending part."""
    return tuple(_requirement(part) for part in _split(text))


def _split(text: str) -> list[str]:
    """At commas outside of parentheses."""
    return [part for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def _requirement(part: str) -> Requirement:
    if found := SET_REQUIREMENT.match(part):
        key, operator, listed = found.groups()
        values = tuple(value.strip() for value in listed.split(","))
        return _checked(Requirement(key, "In" if operator == "in" else "NotIn", values), part)
    if found := COMPARISON.match(part):
        key, operator, value = found.groups()
        name = {"=": "In", "==": "In", "!=": "NotIn", ">": "Gt", "<": "Lt"}[operator]
        return _checked(Requirement(key, name, (value,)), part)
    key = part.strip()
    if key.startswith("!"):
        return _checked(Requirement(key[1:].strip(), "DoesNotExist"), part)
    return _checked(Requirement(key, "Exists"), part)


def _checked(requirement: Requirement, part: str) -> Requirement:
    error = qualified_name_error(requirement.key) or next(filter(None, map(label_value_error, requirement.values)), "")
    if error:
        raise bad_request(f'unable to parse requirement: "{part.strip()}": {error}')
    return requirement


def selector_requirements(selector: Mapping[str, Any]) -> tuple[Requirement, ...]:
    """The requirements of a LabelSelector object (matchLabels and matchExpressions)."""
    labels = [Requirement(key, "In", (value,)) for key, value in (selector.get("matchLabels") or {}).items()]
    expressions = [
        Requirement(item["key"], item["operator"], tuple(item.get("values") or ()))
        for item in selector.get("matchExpressions") or ()
    ]
    return (*labels, *expressions)


def labels_match(requirements: Sequence[Requirement], body: Object) -> bool:
    labels = body["metadata"].get("labels") or {}
    return all(requirement.matches(labels) for requirement in requirements)


@dataclass(frozen=True)
class FieldRequirement:
    path: tuple[str, ...]
    value: str
    equal: bool

    def matches(self, body: Object) -> bool:
        return (field_text(body, self.path) == self.value) is self.equal


def field_text(body: Object, path: Sequence[str]) -> str:
    value: Any = body
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def parse_field_selector(text: str, supported: Callable[[str], bool]) -> tuple[FieldRequirement, ...]:
    """`metadata.name=a,status.phase!=Running`; a field that the kind does not index is a BadRequest."""
    requirements = []
    for part in filter(str.strip, text.split(",")):
        found = re.match(r"\s*([^=!]+?)\s*(==|=|!=)\s*(.*?)\s*\Z", part)
        if not found:
            raise bad_request(f"invalid selector: '{part}'; can't understand '{part}'")
        field, operator, value = found.groups()
        if not supported(field):
            raise bad_request(f"field label not supported: {field}")
        requirements.append(FieldRequirement(tuple(field.split(".")), value, operator != "!="))
    return tuple(requirements)
