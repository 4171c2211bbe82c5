"""What a write asks the webhooks, and the answers that it has got so far.

Operations are one atomic step, and a webhook is asked over the network. So an operation that needs an answer stops
before it has changed anything (`Unanswered`), the answer is fetched, and the operation runs again from its beginning,
now with the answer. Should the stored object have changed meanwhile, the question is another one and is asked anew:
what is written is always exactly what the webhooks have seen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from finetune_local.apiserver.request_options import User
from finetune_local.apiserver.resource_type import ResourceType

Object = dict[str, Any]
Phase = Literal["mutating", "validating"]
Operation = Literal["CREATE", "UPDATE", "DELETE"]
VOLATILE = ("uid", "creationTimestamp", "managedFields")
"""Metadata that differs each time the same operation runs."""


@dataclass(frozen=True)
class Question:
    """`new` is None for a deletion, `old` for a creation. Both are in the version of `resource`; never change them."""

    phase: Phase
    operation: Operation
    resource: ResourceType
    subresource: str
    namespace: str
    name: str
    new: Object | None
    old: Object | None
    user: User
    dry_run: bool
    field_manager: str = ""

    def identity(self) -> bytes:
        """Equal for the same question asked by two runs of one operation."""
        return orjson.dumps([self.phase, _stable(self.new), _version(self.old)], option=orjson.OPT_SORT_KEYS)


def _stable(body: Object | None) -> Object | None:
    if body is None:
        return None
    meta = {key: value for key, value in body["metadata"].items() if key not in VOLATILE}
    if meta.get("generateName"):
        meta.pop("name", None)
    return body | {"metadata": meta}


def _version(body: Object | None) -> str:
    return str(body["metadata"].get("resourceVersion", "")) if body else ""


class Unanswered(Exception):
    """An operation needs the webhooks' answer before it can go on."""

    def __init__(self, question: Question) -> None:
        super().__init__(question.phase)
        self.question = question


class Admission:
    """The answers that one request has got."""

    def __init__(self, concerns: Callable[[Question], bool]) -> None:
        self._concerns = concerns
        self._answers: dict[bytes, bytes | Object | None] = {}

    def ask(self, question: Question) -> Object | None:
        """The object to go on with. Raises Unanswered when a webhook has to be asked first."""
        if not self._concerns(question):
            return question.new
        identity = question.identity()
        if identity not in self._answers:
            raise Unanswered(question)
        answer = self._answers[identity]
        return orjson.loads(answer) if isinstance(answer, bytes) else answer

    def settle(self, question: Question, answer: Object | None) -> None:
        """A mutated object is kept as JSON, since the operation changes it; a validated one is what will be stored."""
        kept = orjson.dumps(answer) if question.phase == "mutating" and answer is not None else answer
        self._answers[question.identity()] = kept
