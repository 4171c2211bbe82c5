"""Where the API server is and how we prove who we are, by the official package's configuration loaders."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes.aio.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION, _is_expired
from yaml import YAMLError


class KubeConfigError(Exception):
    """The kubeconfig, or the pod's service account, can't be used; the message says what to mend."""


class Credentials:
    """Connection settings, and the value of the Authorization header at the time of each request.

    A token from a file is read again every `refresh_seconds`: projected tokens are rotated by the kubelet, and a
    client that keeps the first one is locked out after an hour. An exec plugin runs again when its credential
    expires, or at once after a 401.
    """

    def __init__(
        self, configuration: Any, loader: Any = None, refresh_seconds: float = 60.0, now: Any = time.monotonic
    ) -> None:
        self.configuration = configuration
        self._loader = loader
        self._refresh_seconds = refresh_seconds
        self._now = now
        self._read_at = now()
        self._lock = asyncio.Lock()
        self._user: dict[str, Any] = _plain(getattr(loader, "_user", None))

    @property
    def host(self) -> str:
        return str(self.configuration.host)

    async def authorization(self) -> str | None:
        """The header's value, refreshed where due; None with a client certificate or no authentication."""
        if self._due():
            await self.refresh()
        token = self.configuration.api_key.get("BearerToken")
        return token.strip() if token else None

    def _due(self) -> bool:
        if "exec" in self._user:
            expiry = getattr(self._loader, "exec_plugin_expiry", None)
            return expiry is not None and bool(_is_expired(expiry))  # type: ignore[no-untyped-call]
        rotating = "tokenFile" in self._user or "auth-provider" in self._user
        return (rotating or self._loader is None) and self._now() - self._read_at >= self._refresh_seconds

    async def refresh(self, seen: str | None = None) -> bool:
        """Reads the token anew. True when it differs from `seen`, the one that the server has just refused."""
        async with self._lock:
            if seen is not None and self.configuration.api_key.get("BearerToken", "").strip() != seen:
                return True  # another request has already refreshed it
            self._read_at = self._now()
            await self._reload(rejected=seen is not None)
            return bool(self.configuration.api_key.get("BearerToken", "").strip() != seen)

    async def _reload(self, rejected: bool) -> None:
        if "tokenFile" in self._user and "token" not in self._user:
            base = Path(self._loader._get_base_path(self._loader._user.path))
            token = await asyncio.to_thread((base / self._user["tokenFile"]).read_text)
            self.configuration.api_key["BearerToken"] = f"Bearer {token.strip()}"
        elif self._loader is not None:
            if rejected and hasattr(self._loader, "exec_plugin_expiry"):
                del self._loader.exec_plugin_expiry  # the loader runs the plugin only when it thinks it expired
            await self._loader.load_and_set(self.configuration)
        elif self.configuration.refresh_api_key_hook is not None:
            await asyncio.to_thread(load_incluster_config, self.configuration)


def _plain(node: Any) -> dict[str, Any]:
    value = getattr(node, "value", node)
    return value if isinstance(value, dict) else {}


async def load_credentials(
    kubeconfig: str | None = None, context: str | None = None, *, refresh_seconds: float = 60.0
) -> Credentials:
    """From the given kubeconfig, else from the pod's service account, else from $KUBECONFIG or ~/.kube/config."""
    configuration = Configuration()
    if kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return Credentials(_load_in_cluster(configuration), None, refresh_seconds)
    path = kubeconfig or os.environ.get("KUBECONFIG") or KUBE_CONFIG_DEFAULT_LOCATION
    if not any(Path(part).expanduser().is_file() for part in path.split(os.pathsep)):
        raise KubeConfigError(f"no kubeconfig at {path}: give --kubeconfig FILE or set KUBECONFIG")
    try:
        # persist_config writes the file at once and then never again (kubernetes 37.0.2), so it stays off.
        loader: Any = await load_kube_config(  # type: ignore[no-untyped-call]
            path, context, configuration, persist_config=False
        )
    except (ConfigException, KeyError, TypeError, AttributeError, ValueError, OSError, YAMLError) as error:
        raise KubeConfigError(f"kubeconfig {path} can't be used: {error}") from error
    credentials = Credentials(configuration, loader, refresh_seconds)
    if "exec" in credentials._user and not (configuration.api_key or configuration.cert_file):
        plugin = credentials._user["exec"].get("command")
        raise KubeConfigError(f"kubeconfig {path}: the exec plugin {plugin!r} gave no credential")
    return credentials


def _load_in_cluster(configuration: Any) -> Any:
    try:
        load_incluster_config(configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        raise KubeConfigError(f"the pod's service account can't be used: {error}") from error
    return configuration
