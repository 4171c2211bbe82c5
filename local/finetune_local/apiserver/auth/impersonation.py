"""Impersonate-User and Impersonate-Group: acting, and asking, as somebody else (kubectl --as)."""

from multidict import CIMultiDictProxy

from finetune_local.apiserver.auth.authorization import Attributes, access_denied, is_allowed
from finetune_local.apiserver.request_options import User
from finetune_local.apiserver.revision_store import RevisionStore

ACCOUNT_PREFIX = "system:serviceaccount:"


def impersonated(store: RevisionStore, user: User, headers: CIMultiDictProxy[str]) -> User:
    """The user to act as; raises Forbidden unless RBAC lets `user` impersonate."""
    name = headers.get("Impersonate-User")
    if not name:
        return user
    wanted = Attributes(verb="impersonate", resource="users", name=name)
    if not is_allowed(store, user, wanted)[0]:
        raise access_denied(user, wanted)
    groups = tuple(headers.getall("Impersonate-Group", []))
    if not groups and name.startswith(ACCOUNT_PREFIX):
        namespace = name.removeprefix(ACCOUNT_PREFIX).partition(":")[0]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    return User(name, (*groups, "system:authenticated"))
