"""Keeps the certificate of our own in a Secret, this replica's TLS context, and the API server's trust in step.

Every replica does so: whoever comes first writes, by compare-and-swap, and the others read. Nothing is restarted.
Webhooks and progress receiver serve the same certificate, with the names of both.
"""

import asyncio
import base64
import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.resources import (
    MUTATING_WEBHOOK_CONFIGURATIONS,
    SECRETS,
    VALIDATING_WEBHOOK_CONFIGURATIONS,
)
from finetune_operator.web.certificate import load_pair
from finetune_operator.web.serving_certificate import CA, CERTIFICATE, KEY, renewed

log = logging.getLogger(__name__)
Resource = dict[str, Any]
CONFIGURATIONS = (VALIDATING_WEBHOOK_CONFIGURATIONS, MUTATING_WEBHOOK_CONFIGURATIONS)
PERIOD_SECONDS, RETRY_SECONDS = 60.0, 2.0


@dataclass(frozen=True)
class TrustOptions:
    """The objects that belong together; all of them exist already, made by the chart."""

    namespace: str
    secret: str
    names: Sequence[str]
    """DNS names and addresses by which API server and training pods reach us."""
    configuration: str = ""
    """Name of both WebhookConfigurations; empty: there are none."""


class OwnCertificate:
    """`context` serves TLS, and `authority` is what clients shall trust, from the moment on that `loaded` is set."""

    def __init__(
        self, api: KubeApi, options: TrustOptions, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._api = api
        self._options = options
        self._now = now
        self._served: tuple[bytes, bytes] | None = None
        self._authority = ""
        self.loaded = asyncio.Event()
        self._told = False
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)

    def problem(self) -> str | None:
        """For the readiness probe."""
        if not self.loaded.is_set():
            return "no certificate yet"
        return None if self._told else "the API server does not know the certificate's authority yet"

    @property
    def authority(self) -> str:
        """PEM of the authorities, the newest first."""
        return self._authority

    async def run(self) -> None:
        """Looks every minute, until cancelled; after an error, a write of another replica among them, soon again."""
        while True:
            wait = PERIOD_SECONDS
            try:
                await self.step()
            except ApiError as error:
                wait = RETRY_SECONDS
                level = logging.DEBUG if error.conflict else logging.WARNING
                log.log(
                    level, "the certificate in Secret %s/%s: %s", self._options.namespace, self._options.secret, error
                )
            await asyncio.sleep(wait)

    async def step(self) -> None:
        """Renews what is due, loads it, and tells the API server whom to trust."""
        options = self._options
        secret = await self._api.get(SECRETS, options.secret, options.namespace)
        files = {name: base64.b64decode(value) for name, value in (secret.get("data") or {}).items()}
        due = renewed(files, options.names, self._now())
        if due is not None:
            data = {name: base64.b64encode(content).decode() for name, content in due.items()}
            await self._api.replace(SECRETS, secret | {"data": data})
            log.info("renewed the certificate in Secret %s/%s", options.namespace, options.secret)
            files = due
        self._load(files[CERTIFICATE], files[KEY])
        self._authority = files[CA].decode()
        self.loaded.set()
        await self._publish(base64.b64encode(files[CA]).decode())
        self._told = True

    async def _publish(self, bundle: str) -> None:
        if not self._options.configuration:
            return
        for kind in CONFIGURATIONS:
            configuration = await self._api.get(kind, self._options.configuration)
            hooks = configuration.get("webhooks") or []
            if any(hook["clientConfig"].get("caBundle") != bundle for hook in hooks):
                changed = [hook | {"clientConfig": hook["clientConfig"] | {"caBundle": bundle}} for hook in hooks]
                await self._api.replace(kind, configuration | {"webhooks": changed})

    def _load(self, certificate: bytes, key: bytes) -> None:
        if self._served != (certificate, key):
            load_pair(self.context, certificate, key)
            self._served = (certificate, key)
