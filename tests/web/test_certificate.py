import ssl
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from finetune_local.apiserver.auth.certificates import ensure_pki
from finetune_operator.kube.servers import Server
from finetune_operator.web.certificate import ServerCertificate


async def answers(port: int, authority: bytes) -> bool:
    trust = ssl.create_default_context(cadata=authority.decode())
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        try:
            async with session.get(f"https://127.0.0.1:{port}/", ssl=trust) as answer:
                return answer.status == 404
        except aiohttp.ClientConnectorCertificateError:
            return False


async def test_a_renewed_certificate_is_served_without_a_restart(tmp_path: Path) -> None:
    old, new = ensure_pki(tmp_path / "old"), ensure_pki(tmp_path / "new")
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_bytes(old.read("server.crt"))
    key.write_bytes(old.read("server.key"))
    served = ServerCertificate(str(certificate), str(key))
    server = Server(web.Application(), 0, "127.0.0.1", served.context)
    await server.start()
    try:
        assert await answers(server.port, old.read("ca.crt"))
        assert served.reload() is False
        certificate.write_bytes(new.read("server.crt"))
        assert served.reload() is False  # the key has not followed yet
        assert await answers(server.port, old.read("ca.crt"))
        key.write_bytes(new.read("server.key"))
        assert served.reload() is True
        assert await answers(server.port, new.read("ca.crt"))
        assert not await answers(server.port, old.read("ca.crt"))
    finally:
        await server.close()


def test_a_certificate_that_is_missing_at_the_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ServerCertificate(str(tmp_path / "none.crt"), str(tmp_path / "none.key"))
