"""Which certificate each HTTPS server of the operator shows: files that somebody else renews, or one of our own."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from finetune_operator.kube.client import KubeApi
from finetune_operator.options import Options
from finetune_operator.web.certificate import ServerCertificate
from finetune_operator.web.own_certificate import OwnCertificate, TrustOptions


@dataclass(frozen=True)
class Certificates:
    """None: that server is off, or speaks plain HTTP."""

    progress: ServerCertificate | OwnCertificate | None
    webhooks: ServerCertificate | OwnCertificate | None

    @classmethod
    def of(cls, api: KubeApi, options: Options) -> "Certificates":
        """Reads the files; nothing of the cluster yet."""
        progress: ServerCertificate | OwnCertificate | None = None
        webhooks: ServerCertificate | OwnCertificate | None = None
        own = _own(api, options)
        if options.progress_url and options.progress_tls:
            files = (options.progress_tls_cert, options.progress_tls_key, options.progress_tls_ca)
            progress = ServerCertificate(files[0], *files[1:]) if files[0] else own
        if options.webhook_port:
            cert = options.webhook_tls_cert
            webhooks = ServerCertificate(cert, options.webhook_tls_key) if cert else own
        return cls(progress, webhooks)

    def progress_authority(self) -> str | None:
        """What training pods shall trust, now."""
        return self.progress.authority if self.progress else None

    async def loaded(self) -> None:
        """Once the authority is known that pods are made with."""
        if isinstance(self.progress, OwnCertificate):
            await self.progress.loaded.wait()

    def background(self) -> list[Callable[[], Awaitable[None]]]:
        """What keeps them up to date."""
        return [one.run for one in self._different()]

    def ready_checks(self) -> dict[str, Callable[[], str | None]]:
        """For the readiness probe."""
        own = next((one for one in self._different() if isinstance(one, OwnCertificate)), None)
        return {"certificate": own.problem} if own else {}

    def _different(self) -> list[ServerCertificate | OwnCertificate]:
        return list(dict.fromkeys(one for one in (self.progress, self.webhooks) if one is not None))


def _own(api: KubeApi, options: Options) -> OwnCertificate:
    """For the servers that have none."""
    namespace, _, name = options.tls_secret.partition("/")
    configuration = options.webhook_configuration if options.webhook_port and not options.webhook_tls_cert else ""
    return OwnCertificate(api, TrustOptions(namespace, name, options.tls_names, configuration))
