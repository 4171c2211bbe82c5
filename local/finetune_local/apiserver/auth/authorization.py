"""RBAC: what roles and bindings allow (k8s.io/kubernetes/pkg/registry/rbac/validation)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from finetune_local.apiserver.request_options import User
from finetune_local.apiserver.revision_store import RevisionStore
from finetune_local.apiserver.status_error import StatusError, qualified

Object = dict[str, Any]
RBAC = "rbac.authorization.k8s.io"
MASTERS = "system:masters"
EVERYTHING: Object = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
# What every authenticated user may do: discovery, and ask about oneself (system:basic-user, system:discovery).
BASIC_RULES: list[Object] = [
    {
        "verbs": ["create"],
        "apiGroups": ["authorization.k8s.io"],
        "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
    },
    {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]},
    {
        "verbs": ["get"],
        "nonResourceURLs": [
            "/api",
            "/api/*",
            "/apis",
            "/apis/*",
            "/healthz",
            "/livez",
            "/openapi",
            "/openapi/*",
            "/readyz",
            "/version",
        ],
    },
]


@dataclass(frozen=True)
class Attributes:
    """One access to decide on; `path` for URLs that are no resources."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @classmethod
    def of_review(cls, spec: Object) -> "Attributes":
        if plain := spec.get("nonResourceAttributes"):
            return cls(verb=plain.get("verb", ""), path=plain.get("path", ""))
        wanted = spec.get("resourceAttributes") or {}
        return cls(
            verb=wanted.get("verb", ""),
            group=wanted.get("group", ""),
            resource=wanted.get("resource", ""),
            subresource=wanted.get("subresource", ""),
            namespace=wanted.get("namespace", ""),
            name=wanted.get("name", ""),
        )


def is_allowed(store: RevisionStore, user: User, wanted: Attributes) -> tuple[bool, str]:
    """The decision, and the binding that grants it."""
    if MASTERS in user.groups:
        return True, ""
    for rule, reason in rules_of(store, user, wanted.namespace):
        if rule_allows(rule, wanted):
            return True, reason
    return False, ""


def access_denied(user: User, wanted: Attributes) -> StatusError:
    """403 with the words of the real server."""
    resource = f"{wanted.resource}/{wanted.subresource}" if wanted.subresource else wanted.resource
    where = f' in the namespace "{wanted.namespace}"' if wanted.namespace else " at the cluster scope"
    text = f'User "{user.name}" cannot {wanted.verb} resource "{resource}" in API group "{wanted.group}"{where}'
    subject = qualified(wanted.resource, wanted.group) + (f' "{wanted.name}"' if wanted.name else "")
    return StatusError(
        403,
        "Forbidden",
        f"{subject} is forbidden: {text}",
        name=wanted.name,
        group=wanted.group,
        kind=wanted.resource,
    )


def rules_of(store: RevisionStore, user: User, namespace: str) -> Iterator[tuple[Object, str]]:
    """Rules that apply to the user: everywhere, and in the namespace."""
    if MASTERS in user.groups:
        yield EVERYTHING, ""
        yield {"verbs": ["*"], "nonResourceURLs": ["*"]}, ""
    for rule in BASIC_RULES:
        yield rule, "RBAC: every authenticated user"
    for binding in store.collection((RBAC, "clusterrolebindings")).items():
        yield from _granted(store, binding.body, user, "", "ClusterRoleBinding")
    if namespace:
        for binding in store.collection((RBAC, "rolebindings")).items(namespace):
            yield from _granted(store, binding.body, user, namespace, "RoleBinding")


def _granted(
    store: RevisionStore, binding: Object, user: User, namespace: str, kind: str
) -> Iterator[tuple[Object, str]]:
    if not any(_is_subject(subject, user, namespace) for subject in binding.get("subjects") or ()):
        return
    role = binding["roleRef"]
    plural, where = ("roles", namespace) if role["kind"] == "Role" else ("clusterroles", "")
    stored = store.collection((RBAC, plural)).get(where, role["name"])
    if stored is None:
        return
    name = binding["metadata"]["name"]
    reason = f'RBAC: allowed by {kind} "{name}" of {role["kind"]} "{role["name"]}"'
    for rule in _rules(store, stored.body):
        yield rule, reason


def _rules(store: RevisionStore, role: Object) -> Iterator[Object]:
    yield from role.get("rules") or ()
    for selector in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ():
        wanted = selector.get("matchLabels") or {}
        for other in store.collection((RBAC, "clusterroles")).items():
            labels = other.body["metadata"].get("labels") or {}
            if wanted and all(labels.get(key) == value for key, value in wanted.items()):
                yield from other.body.get("rules") or ()


def _is_subject(subject: Object, user: User, namespace: str) -> bool:
    match subject.get("kind"):
        case "User":
            return bool(subject.get("name") == user.name)
        case "Group":
            return subject.get("name") in user.groups
        case "ServiceAccount":
            where = subject.get("namespace") or namespace
            return user.name == f"system:serviceaccount:{where}:{subject.get('name')}"
    return False


def rule_allows(rule: Object, wanted: Attributes) -> bool:
    verbs = rule.get("verbs") or ()
    if "*" not in verbs and wanted.verb not in verbs:
        return False
    if wanted.path:
        return any(_path_matches(pattern, wanted.path) for pattern in rule.get("nonResourceURLs") or ())
    groups = rule.get("apiGroups") or ()
    if "*" not in groups and wanted.group not in groups:
        return False
    names = rule.get("resourceNames")
    if names and wanted.name not in names:
        return False
    return any(_resource_matches(pattern, wanted) for pattern in rule.get("resources") or ())


def _resource_matches(pattern: str, wanted: Attributes) -> bool:
    full = f"{wanted.resource}/{wanted.subresource}" if wanted.subresource else wanted.resource
    if pattern in ("*", full):
        return True
    return bool(wanted.subresource) and pattern == f"*/{wanted.subresource}"


def _path_matches(pattern: str, path: str) -> bool:
    return pattern == path or (pattern.endswith("*") and path.startswith(pattern[:-1]))
