"""A server certificate that follows its files: cert-manager and the kubelet replace them while we run."""

import asyncio
import logging
import ssl
from pathlib import Path

log = logging.getLogger(__name__)


class ServerCertificate:
    """The context of a TLS server. New handshakes use the newest files; open connections go on."""

    def __init__(
        self, certificate: str, key: str | None, authority: str | None = None, *, period: float = 30.0
    ) -> None:
        self._files = (certificate, key)
        self._authority_file = authority or certificate
        self._period = period
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(*self._files)
        self._loaded = self._stamps()
        self._authority = Path(self._authority_file).read_text()

    @property
    def authority(self) -> str:
        """PEM of what clients shall trust: a file of its own, or the certificate itself."""
        return self._authority

    async def run(self) -> None:
        """Looks at the files now and then, until cancelled."""
        while True:
            await asyncio.sleep(self._period)
            self.reload()

    def reload(self) -> bool:
        """Loads the files if they changed. A pair that does not fit, half-way through a renewal, waits."""
        try:
            stamps = self._stamps()
            if stamps == self._loaded:
                return False
            self.context.load_cert_chain(*self._files)
            self._authority = Path(self._authority_file).read_text()
        except (OSError, ssl.SSLError) as error:
            log.warning("the certificate %s was not loaded: %s", self._files[0], error)
            return False
        self._loaded = stamps
        log.info("loaded the renewed certificate %s", self._files[0])
        return True

    def _stamps(self) -> list[tuple[int, int]]:
        found = [Path(name).stat() for name in (*self._files, self._authority_file) if name]
        return [(stat.st_mtime_ns, stat.st_ino) for stat in found]
