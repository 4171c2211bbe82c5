"""From a request to a user: client certificate, admin token or service-account token."""

import hmac
from typing import Any

from aiohttp import web

from finetune_local.apiserver.auth.service_account_tokens import InvalidTokenError, ServiceAccountTokens
from finetune_local.apiserver.request_options import ADMIN, User
from finetune_local.apiserver.status_error import unauthorized

API_AUDIENCES = ("https://kubernetes.default.svc.cluster.local", "https://kubernetes.default.svc")


class Authenticator:
    """Raises Unauthorized unless the request proves who it is from."""

    def __init__(self, tokens: ServiceAccountTokens, admin_token: str) -> None:
        self._tokens = tokens
        self._admin_token = admin_token.encode()

    def __call__(self, request: web.Request) -> User:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return self._by_token(token.strip())
        certificate = request.transport.get_extra_info("peercert") if request.transport else None
        if certificate:
            return user_of_certificate(certificate)
        raise unauthorized()

    def _by_token(self, token: str) -> User:
        if hmac.compare_digest(token.encode(), self._admin_token):
            return ADMIN
        try:
            return self._tokens.authenticate(token, API_AUDIENCES).user
        except InvalidTokenError as error:
            raise unauthorized() from error


def user_of_certificate(certificate: dict[str, Any]) -> User:
    """Common name is the user, organizations are the groups. The TLS layer has verified the certificate."""
    subject = [pair for part in certificate.get("subject", ()) for pair in part]
    names = [value for key, value in subject if key == "commonName"]
    groups = tuple(value for key, value in subject if key == "organizationName")
    if not names:
        raise unauthorized()
    return User(names[0], (*groups, "system:authenticated"))
