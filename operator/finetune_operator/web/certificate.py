"""A server certificate that follows its files: cert-manager and the kubelet replace them while we run."""

import asyncio
import logging
import ssl
import tempfile
from pathlib import Path

log = logging.getLogger(__name__)


def load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """New handshakes use it. A pair that does not fit leaves the context as it was: OpenSSL would forget the key first.

    Raises:
        ssl.SSLError: It does not fit, or cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="finetune-certificate-") as folder:  # OpenSSL reads files only
        certificate_file, key_file = Path(folder, "tls.crt"), Path(folder, "tls.key")
        certificate_file.write_bytes(certificate)
        key_file.write_bytes(key)
        for one in (ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), context):
            one.load_cert_chain(certificate_file, key_file)


class ServerCertificate:
    """The context of a TLS server. New handshakes use the newest files; open connections go on."""

    def __init__(
        self, certificate: str, key: str | None, authority: str | None = None, *, period: float = 30.0
    ) -> None:
        self._files = (Path(certificate), Path(key or certificate))
        self._authority_file = Path(authority or certificate)
        self._period = period
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._loaded = self._stamps()
        load_pair(self.context, *(file.read_bytes() for file in self._files))
        self._authority = self._authority_file.read_text()

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
            load_pair(self.context, *(file.read_bytes() for file in self._files))
            self._authority = self._authority_file.read_text()
        except (OSError, ssl.SSLError) as error:
            log.warning("the certificate %s was not loaded: %s", self._files[0], error)
            return False
        self._loaded = stamps
        log.info("loaded the renewed certificate %s", self._files[0])
        return True

    def _stamps(self) -> list[tuple[int, int]]:
        found = [file.stat() for file in (*self._files, self._authority_file)]
        return [(stat.st_mtime_ns, stat.st_ino) for stat in found]
