"""Virtual kinds that answer questions: TokenReview, SelfSubjectReview and the access reviews."""

from collections.abc import Callable
from typing import Any

from finetune_local.apiserver.auth.authentication import API_AUDIENCES
from finetune_local.apiserver.auth.authorization import Attributes, is_allowed, rules_of
from finetune_local.apiserver.auth.service_account_tokens import InvalidTokenError
from finetune_local.apiserver.cluster import Cluster
from finetune_local.apiserver.request_options import User
from finetune_local.apiserver.resource_type import ResourceType
from finetune_local.apiserver.status_error import bad_request

Object = dict[str, Any]
Review = Callable[[Cluster, Object, User, str], Object]


def token_review(cluster: Cluster, body: Object, _user: User, _namespace: str) -> Object:
    spec = body.get("spec") or {}
    if not spec.get("token"):
        raise bad_request("token is required for TokenReview in authentication")
    audiences = tuple(spec.get("audiences") or ())
    try:
        found = cluster.tokens.authenticate(spec["token"], audiences or API_AUDIENCES)
    except InvalidTokenError as error:
        return {"user": {}, "error": f"[invalid bearer token, {error}]"}
    return {"authenticated": True, "user": found.user.as_dict(), "audiences": list(found.audiences)}


def self_subject_review(_cluster: Cluster, _body: Object, user: User, _namespace: str) -> Object:
    return {"userInfo": user.as_dict()}


def self_subject_access_review(cluster: Cluster, body: Object, user: User, _namespace: str) -> Object:
    return _access(cluster, user, body.get("spec") or {})


def subject_access_review(cluster: Cluster, body: Object, _user: User, namespace: str) -> Object:
    spec = body.get("spec") or {}
    subject = User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""))
    if namespace:
        spec = spec | {"resourceAttributes": (spec.get("resourceAttributes") or {}) | {"namespace": namespace}}
    return _access(cluster, subject, spec)


def _access(cluster: Cluster, user: User, spec: Object) -> Object:
    allowed, reason = is_allowed(cluster.store, user, Attributes.of_review(spec))
    return {"allowed": allowed} | ({"reason": reason} if reason else {})


def self_subject_rules_review(cluster: Cluster, body: Object, user: User, _namespace: str) -> Object:
    namespace = (body.get("spec") or {}).get("namespace", "")
    rules = [rule for rule, _ in rules_of(cluster.store, user, namespace)]
    return {
        "resourceRules": [
            {key: rule[key] for key in ("verbs", "apiGroups", "resources", "resourceNames") if key in rule}
            for rule in rules
            if rule.get("resources")
        ],
        "nonResourceRules": [
            {key: rule[key] for key in ("verbs", "nonResourceURLs")} for rule in rules if rule.get("nonResourceURLs")
        ],
        "incomplete": False,
    }


REVIEWS: dict[str, Review] = {
    "tokenreviews": token_review,
    "selfsubjectreviews": self_subject_review,
    "selfsubjectaccessreviews": self_subject_access_review,
    "subjectaccessreviews": subject_access_review,
    "localsubjectaccessreviews": subject_access_review,
    "selfsubjectrulesreviews": self_subject_rules_review,
}


def answer_review(cluster: Cluster, resource: ResourceType, namespace: str, body: Object, user: User) -> Object:
    status = REVIEWS[resource.plural](cluster, body, user, namespace)
    answered = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": body.get("metadata") or {}}
    return answered | ({"spec": body["spec"]} if "spec" in body else {}) | {"status": status}
