"""Tokens of service accounts: signed by the cluster's key, for an audience, bound to a pod (KEP-1205)."""

import time
import uuid
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from finetune_local.apiserver.request_options import User
from finetune_local.apiserver.revision_store import RevisionStore

Object = dict[str, Any]
ISSUER = "https://kubernetes.default.svc.cluster.local"
ALGORITHM = "ES256"
POD_NAME, POD_UID = "authentication.kubernetes.io/pod-name", "authentication.kubernetes.io/pod-uid"
CREDENTIAL = "authentication.kubernetes.io/credential-id"


def new_key() -> bytes:
    """A fresh signing key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


class InvalidTokenError(ValueError):
    """A token that must not be believed; the message says why, for TokenReview's error."""


@dataclass(frozen=True)
class Authenticated:
    user: User
    audiences: tuple[str, ...]


class ServiceAccountTokens:
    """Issues and checks tokens; accounts and pods are looked up in the store at every check."""

    def __init__(self, store: RevisionStore, private_key: bytes) -> None:
        self._store = store
        self._key = serialization.load_pem_private_key(private_key, None)
        self._public = self._key.public_key()

    def issue(
        self, account: Object, audiences: tuple[str, ...], seconds: int, pod: Object | None = None
    ) -> tuple[str, float]:
        """The token and the time when it expires, for a ServiceAccount and, bound, for one of its pods."""
        meta = account["metadata"]
        now = time.time()
        private: Object = {
            "namespace": meta["namespace"],
            "serviceaccount": {"name": meta["name"], "uid": meta["uid"]},
        }
        if pod is not None:
            private["pod"] = {"name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        claims = {
            "iss": ISSUER,
            "sub": f"system:serviceaccount:{meta['namespace']}:{meta['name']}",
            "aud": list(audiences),
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now) + seconds,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": private,
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM), int(now) + seconds  # type: ignore[arg-type]

    def authenticate(self, token: str, audiences: tuple[str, ...]) -> Authenticated:
        """Raises InvalidTokenError for a bad signature, another audience, an expired token, a gone account or pod."""
        claims = self._claims(token)
        granted = tuple(name for name in claims.get("aud", ()) if name in audiences)
        if not granted:
            raise InvalidTokenError(
                f"token audiences {claims.get('aud')} is invalid for the target audiences {list(audiences)}"
            )
        private = claims.get("kubernetes.io") or {}
        namespace, account = private.get("namespace", ""), private.get("serviceaccount") or {}
        self._check_object("serviceaccounts", namespace, account)
        extra = {CREDENTIAL: [f"JTI={claims.get('jti')}"]}
        if pod := private.get("pod"):
            self._check_object("pods", namespace, pod)
            extra |= {POD_NAME: [pod["name"]], POD_UID: [pod["uid"]]}
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        return Authenticated(User(claims["sub"], groups, account["uid"], extra), granted)

    def _claims(self, token: str) -> Object:
        try:
            claims: Object = jwt.decode(
                token,
                self._public,  # type: ignore[arg-type]
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                options={"verify_aud": False, "require": ["exp", "iss", "sub", "aud"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise InvalidTokenError("service account token has expired") from error
        except jwt.InvalidTokenError as error:
            raise InvalidTokenError(f"invalid bearer token: {error}") from error
        return claims

    def _check_object(self, plural: str, namespace: str, claimed: Object) -> None:
        stored = self._store.collection(("", plural)).get(namespace, claimed.get("name", ""))
        if stored is None:
            raise InvalidTokenError(f"{plural[:-1]} {namespace}/{claimed.get('name')} is gone: the token is revoked")
        if stored.body["metadata"]["uid"] != claimed.get("uid"):
            raise InvalidTokenError(
                f"{plural[:-1]} UID ({claimed.get('uid')}) does not match claim: the token is revoked"
            )
