"""CEL rules of CRDs (`x-kubernetes-validations`, KEP-2876), by Google's own implementation (cel-expr-python).

Each rule is compiled once, with its schema. Transition rules (those that name oldSelf) run on updates only, and on list
items only where the list has keys to find the old item by.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cel_expr_python import cel

from finetune_local.apiserver.cel_functions import EXTENSIONS
from finetune_local.apiserver.cel_values import cel_value, mark_conversions
from finetune_local.apiserver.schema import MISSING, Schema
from finetune_local.apiserver.status_error import Cause

ENVIRONMENT = cel.NewEnv(variables={"self": cel.Type.DYN, "oldSelf": cel.Type.DYN}, extensions=EXTENSIONS)
REASONS = {"FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate"}
OLD_SELF = re.compile(r"\boldSelf\b")


@dataclass(frozen=True)
class Rule:
    source: str
    program: Any
    message: str
    message_program: Any | None
    reason: str
    field_path: str
    is_transition: bool
    optional_old_self: bool

    def violation(self, value: Any, old: Any, path: str) -> Cause | None:
        data = {"self": value}
        if old is not MISSING:
            data["oldSelf"] = old
        answer = self.program.eval(data=data).value()
        if answer is True:
            return None
        if answer is False:
            return self._cause(path, self._text(data))
        return self._cause(path, f"rule compiled but failed to evaluate: {answer}: {self.source}")

    def _text(self, data: dict[str, Any]) -> str:
        if self.message_program is not None:
            text = self.message_program.eval(data=data).value()
            if isinstance(text, str) and text.strip() and "\n" not in text:
                return text
        return self.message or f"failed rule: {self.source}"

    def _cause(self, path: str, message: str) -> Cause:
        prefix = {
            "FieldValueInvalid": 'Invalid value: "object": ',
            "FieldValueForbidden": "Forbidden: ",
            "FieldValueRequired": "Required value: ",
            "FieldValueDuplicate": 'Duplicate value: "object": ',
        }[self.reason]
        return Cause(self.reason, prefix + message, (path + self.field_path) or "<nil>")


class RuleError(ValueError):
    """A rule that does not compile; the message is the compiler's."""


def compile_rules(schema: Schema) -> None:
    """Compiles the rules of a schema and of all below it, in place. Raises RuleError for the first bad one."""
    schema.rules = [compile_rule(raw) for raw in schema.raw.get("x-kubernetes-validations", ())]
    for child in schema.children():
        if child is not schema:
            compile_rules(child)
    schema.has_rules = bool(schema.rules) or any(child.has_rules for child in schema.children())
    mark_conversions(schema)


def compile_rule(raw: dict[str, Any]) -> Rule:
    source = raw["rule"]
    expression = raw.get("messageExpression")
    reason = raw.get("reason", "FieldValueInvalid")
    if reason not in REASONS:
        raise RuleError(f"reason: Unsupported value: {reason!r}: supported values: {', '.join(sorted(REASONS))}")
    return Rule(
        source=source,
        program=_compile(source),
        message=raw.get("message", "").strip(),
        message_program=_compile(expression) if expression else None,
        reason=reason,
        field_path=raw.get("fieldPath", ""),
        is_transition=OLD_SELF.search(source) is not None,
        optional_old_self=raw.get("optionalOldSelf", False),
    )


def _compile(source: str) -> Any:
    try:
        program = ENVIRONMENT.compile(source)
    except Exception as error:
        raise RuleError(f"compilation failed: {error}") from error
    return program


def check_rules(schema: Schema, value: Any, old: Any = MISSING, path: str = "") -> Iterator[Cause]:
    """Every violated rule of `value`; `old` is the stored value of an update, or MISSING on create."""
    if not schema.has_rules or value is None:
        return
    if schema.rules:
        yield from _violations(schema, value, old, path)
    if isinstance(value, dict):
        yield from _check_properties(schema, value, old, path)
    elif isinstance(value, list) and schema.items is not None and schema.items.has_rules:
        for index, item in enumerate(value):
            yield from check_rules(schema.items, item, _old_item(schema, item, old), f"{path}[{index}]")


def _violations(schema: Schema, value: Any, old: Any, path: str) -> Iterator[Cause]:
    value = cel_value(schema, value)
    old = MISSING if old is MISSING else cel_value(schema, old)
    for rule in schema.rules:
        if rule.is_transition and old is MISSING and not rule.optional_old_self:
            continue
        violation = rule.violation(value, old, path)
        if violation is not None:
            yield violation


def _check_properties(schema: Schema, value: dict[str, Any], old: Any, path: str) -> Iterator[Cause]:
    """What an update leaves as it was is not judged again (ratcheting, KEP-4008)."""
    olds = old if isinstance(old, dict) else {}
    for key, item in value.items():
        child = schema.child(key)
        if child is not None and child.has_rules and not (key in olds and olds[key] == item):
            yield from check_rules(child, item, olds.get(key, MISSING), f"{path}.{key}" if path else key)


def _old_item(schema: Schema, item: Any, old: Any) -> Any:
    if schema.list_type != "map" or not isinstance(old, list) or not isinstance(item, dict):
        return MISSING
    wanted = [item.get(key) for key in schema.map_keys]
    matches = (other for other in old if [other.get(key) for key in schema.map_keys] == wanted)
    return next(matches, MISSING)
