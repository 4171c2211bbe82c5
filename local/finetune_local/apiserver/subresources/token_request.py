"""POST serviceaccounts/NAME/token: a TokenRequest."""

from datetime import UTC, datetime
from typing import Any

from finetune_local.apiserver.auth.authentication import API_AUDIENCES
from finetune_local.apiserver.cluster import Cluster
from finetune_local.apiserver.status_error import conflict, invalid, invalid_value, not_found

Object = dict[str, Any]
MIN_SECONDS, MAX_SECONDS, DEFAULT_SECONDS = 600, 1 << 32, 3600


def request_token(cluster: Cluster, namespace: str, account_name: str, body: Object) -> Object:
    """The request with its status: the token and when it expires. Bound pods must exist and use the account."""
    account = cluster.store.collection(("", "serviceaccounts")).get(namespace, account_name)
    if account is None:
        raise not_found("", "serviceaccounts", account_name)
    spec = body.setdefault("spec", {})
    seconds = spec.setdefault("expirationSeconds", DEFAULT_SECONDS)
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        text = (
            "may not specify a duration less than 10 minutes"
            if seconds < MIN_SECONDS
            else "may not exceed 2^32 seconds"
        )
        raise invalid(
            "authentication.k8s.io", "TokenRequest", "", [invalid_value("spec.expirationSeconds", seconds, text)]
        )
    spec["audiences"] = spec.get("audiences") or [API_AUDIENCES[0]]
    pod = _bound_pod(cluster, namespace, account_name, spec.get("boundObjectRef"))
    token, expires = cluster.tokens.issue(account.body, tuple(spec["audiences"]), seconds, pod)
    expiration = datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": account_name, "namespace": namespace},
        "spec": spec,
        "status": {"token": token, "expirationTimestamp": expiration},
    }


def _bound_pod(cluster: Cluster, namespace: str, account_name: str, reference: Object | None) -> Object | None:
    if not reference:
        return None
    if reference.get("kind") != "Pod":
        text = "cannot bind token for serviceaccount to anything but a Pod here"
        raise invalid(
            "authentication.k8s.io",
            "TokenRequest",
            "",
            [invalid_value("spec.boundObjectRef.kind", reference.get("kind"), text)],
        )
    name = reference.get("name", "")
    stored = cluster.store.collection(("", "pods")).get(namespace, name)
    if stored is None:
        raise not_found("", "pods", name)
    uid = stored.body["metadata"]["uid"]
    if reference.get("uid") not in (None, "", uid):
        raise conflict(
            "", "pods", name, f"the UID in the bound object reference ({reference['uid']}) does not match {uid}"
        )
    used = stored.body["spec"].get("serviceAccountName") or "default"
    if used != account_name:
        text = (
            f"cannot bind token for serviceaccount {account_name!r} to pod running with different serviceaccount name"
        )
        raise invalid("authentication.k8s.io", "TokenRequest", "", [invalid_value("spec.boundObjectRef", name, text)])
    return stored.body
