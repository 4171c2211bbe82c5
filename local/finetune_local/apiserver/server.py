"""The API server as one object: start, kubeconfig, stop."""

import contextlib
import pathlib
import secrets
import shutil
import tempfile

from aiohttp import web

from finetune_local.apiserver.auth.authentication import API_AUDIENCES, Authenticator
from finetune_local.apiserver.auth.certificates import LIFETIME, Pki, ensure_pki
from finetune_local.apiserver.auth.kubeconfig import kubeconfig, write_kubeconfig
from finetune_local.apiserver.cluster import Cluster, LogProvider
from finetune_local.apiserver.http.application import Application
from finetune_local.apiserver.journal import Journal
from finetune_local.apiserver.memory_kube_api import MemoryKubeApi
from finetune_operator.kube.resources import SERVICE_ACCOUNTS


class ApiServer:
    """An API server of one process.

    `state`: a folder that keeps objects and keys between runs; without one both live as long as the server.
    `tls=False` serves plain HTTP; `authentication=False` makes everybody admin (for tests on loopback only).
    """

    def __init__(
        self,
        state: pathlib.Path | None = None,
        *,
        tls: bool = True,
        authentication: bool = True,
        host: str = "127.0.0.1",
    ) -> None:
        self._scratch = pathlib.Path(tempfile.mkdtemp(prefix="finetune-apiserver-")) if state is None else None
        self._folder = state or self._scratch
        assert self._folder is not None
        self.pki: Pki = ensure_pki(self._folder / "pki")
        self._journal = Journal(state) if state is not None else None
        store = self._journal.load() if self._journal else None
        self.cluster = Cluster(store, service_account_key=self.pki.read("service-account.key"))
        self.admin_token = secrets.token_urlsafe(24)
        self.api = MemoryKubeApi(self.cluster)
        self._tls = tls
        self._authentication = authentication
        self._host = host
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self, port: int = 0) -> str:
        """Binds and serves; returns the URL. Port 0 takes a free one."""
        authenticator = Authenticator(self.cluster.tokens, self.admin_token) if self._authentication else None
        app = Application(self.cluster, authenticator).build()
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await runner.setup()
        context = self.pki.server_context() if self._tls else None
        site = web.TCPSite(runner, self._host, port, ssl_context=context)
        try:
            await site.start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        if self._journal is not None:
            self._journal.start()
        bound = runner.addresses[0][1]
        self.url = f"{'https' if self._tls else 'http'}://{self._host}:{bound}"
        return self.url

    def write_kubeconfig(self, path: pathlib.Path, *, token: str = "") -> pathlib.Path:
        """For the admin's certificate (over HTTPS), or for `token`."""
        if not self.url:
            raise RuntimeError("start the API server before writing its kubeconfig")
        if self._tls and not token:
            certificate, key = self.pki.read("admin.crt"), self.pki.read("admin.key")
            config = kubeconfig(self.url, ca=self.pki.read("ca.crt"), certificate=certificate, key=key)
        else:
            ca = self.pki.read("ca.crt") if self._tls else b""
            config = kubeconfig(self.url, ca=ca, token=token or self.admin_token)
        write_kubeconfig(path, config)
        return path

    async def account_token(self, namespace: str, name: str) -> str:
        """For a program that runs beside the cluster as a ServiceAccount: valid as long as the admin's certificate."""
        account = await self.api.get(SERVICE_ACCOUNTS, name, namespace)
        token, _ = self.cluster.tokens.issue(account, API_AUDIENCES[:1], int(LIFETIME.total_seconds()))
        return token

    def set_log_provider(self, provider: LogProvider) -> None:
        """What answers kubectl logs: an async iterator of bytes for each request."""
        self.cluster.log_provider = provider

    async def stop(self) -> None:
        self.cluster.cut_watches()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
            if self._journal is not None:
                await self._journal.stop()
        if self._scratch is not None:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self._scratch)

    async def __aenter__(self) -> "ApiServer":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
