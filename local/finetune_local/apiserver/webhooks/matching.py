"""Which webhooks a request concerns (k8s.io/apiserver/pkg/admission/plugin/webhook/predicates)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from finetune_local.apiserver.namespace_admission import NAMESPACES
from finetune_local.apiserver.revision_store import RevisionStore
from finetune_local.apiserver.selectors import Requirement, labels_match, selector_requirements
from finetune_local.apiserver.webhooks.question import Phase, Question

Object = dict[str, Any]
GROUP = "admissionregistration.k8s.io"
CONFIGURATIONS: dict[Phase, tuple[str, str]] = {
    "mutating": (GROUP, "mutatingwebhookconfigurations"),
    "validating": (GROUP, "validatingwebhookconfigurations"),
}


@dataclass(frozen=True)
class Webhook:
    """One entry of a configuration."""

    body: Object

    @property
    def name(self) -> str:
        return str(self.body["name"])

    @property
    def reinvoked(self) -> bool:
        return bool(self.body.get("reinvocationPolicy") == "IfNeeded")

    def concerns(self, question: Question, namespace: Object | None) -> bool:
        """`namespace` is the object whose labels count; None for what has none."""
        if not any(_rule_matches(rule, question) for rule in self.body.get("rules") or ()):
            return False
        if namespace is not None and not labels_match(_selector(self.body, "namespaceSelector"), namespace):
            return False
        wanted = _selector(self.body, "objectSelector")
        return not wanted or any(labels_match(wanted, one) for one in (question.new, question.old) if one is not None)


def _selector(body: Object, name: str) -> tuple[Requirement, ...]:
    return selector_requirements(body.get(name) or {})


def _rule_matches(rule: Object, question: Question) -> bool:
    resource = question.resource
    scope = "Namespaced" if resource.namespaced else "Cluster"
    return (
        _listed(rule.get("operations"), question.operation)
        and _listed(rule.get("apiGroups"), resource.group)
        and _listed(rule.get("apiVersions"), resource.version)
        and rule.get("scope", "*") in ("*", scope)
        and any(_resource_matches(one, resource.plural, question.subresource) for one in rule.get("resources") or ())
    )


def _listed(values: Sequence[str] | None, value: str) -> bool:
    return "*" in (values or ()) or value in (values or ())


def _resource_matches(pattern: str, plural: str, subresource: str) -> bool:
    """`pods`, `pods/status`, `pods/*`, `*/status`, `*` (no subresources) and `*/*`."""
    wanted, _, sub = pattern.partition("/")
    return wanted in ("*", plural) and (sub == "*" or sub == subresource)


class Webhooks:
    """The webhooks that are configured now."""

    def __init__(self, store: RevisionStore) -> None:
        self._store = store

    def any(self) -> bool:
        return any(self._store.collection(key).objects for key in CONFIGURATIONS.values())

    def of(self, question: Question) -> list[Webhook]:
        """Those that a request concerns, in the order of the configurations' names."""
        if question.resource.group == GROUP:
            return []  # nobody can lock everybody out for good
        namespace = self._namespace(question)
        return [hook for hook in self._all(question.phase) if hook.concerns(question, namespace)]

    def _all(self, phase: Phase) -> Iterator[Webhook]:
        for stored in self._store.collection(CONFIGURATIONS[phase]).items():
            for body in stored.body.get("webhooks") or ():
                yield Webhook(body)

    def _namespace(self, question: Question) -> Object | None:
        if question.resource.key == NAMESPACES:
            return question.new if question.new is not None else question.old
        if not question.resource.namespaced:
            return None
        stored = self._store.collection(NAMESPACES).get("", question.namespace)
        return stored.body if stored else {"metadata": {}}
