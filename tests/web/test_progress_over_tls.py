"""What a training pod sends over HTTPS, with the certificate that the operator keeps by itself, and to whom."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from finetune_local.cluster import Cluster
from finetune_operator.cli.local_installation import CERTIFICATE, NAMESPACE, install_rights
from finetune_operator.cli.ports import LOOPBACK
from finetune_operator.kube.client import HttpKubeApi
from finetune_operator.kube.resources import SECRETS
from finetune_operator.kube.servers import Server
from finetune_operator.web.own_certificate import OwnCertificate, TrustOptions
from finetune_operator.web.serving_certificate import AUTHORITY_LIFETIME
from finetune_trainer.progress import Receiver, Reporter

TOKEN = "the-pods-own-token"
OPTIONS = TrustOptions(NAMESPACE, CERTIFICATE, (LOOPBACK,))


@dataclass
class Replica:
    """A receiver that takes whatever it is sent; its clock may be moved."""

    certificate: OwnCertificate
    folder: Path
    got: list[str] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/report", self._take)
        self.server = Server(app, 0, LOOPBACK, self.certificate.context)
        await self.server.start()

    async def _take(self, request: web.Request) -> web.Response:
        self.got.append(request.headers["Authorization"])
        self.arrived.set()
        return web.Response(status=204)

    def pod(self, authority: str, name: str) -> Reporter:
        """Rank 0 of a gang that was made when this was the authority."""
        trusted, token = self.folder / f"{name}.crt", self.folder / "token"
        trusted.write_text(authority)
        token.write_text(TOKEN)
        return Reporter(Receiver(f"https://{LOOPBACK}:{self.server.port}/report", token, trusted), interval=0.01)

    async def hears(self, pod: Reporter, step: int) -> None:
        self.arrived.clear()
        pod.update(step=step)
        await asyncio.wait_for(self.arrived.wait(), 30)


class Clock:
    """At first that of a day on which the authority was made that is due now."""

    now = datetime.now(UTC) - AUTHORITY_LIFETIME * 2 / 3 - timedelta(days=5)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
async def installed(cluster: Cluster) -> AsyncIterator[HttpKubeApi]:
    await install_rights(cluster.api)
    async with await HttpKubeApi.connect(str(cluster.kubeconfig)) as api:
        yield api


@pytest.fixture
async def replicas(installed: HttpKubeApi, tmp_path: Path) -> AsyncIterator[tuple[Clock, Replica, Replica]]:
    clock = Clock()
    two = [Replica(OwnCertificate(installed, OPTIONS, clock), tmp_path) for _ in range(2)]
    await two[0].certificate.step()
    clock.now = datetime.now(UTC) - timedelta(days=10)
    for replica in two:
        await replica.certificate.step()
        await replica.start()
    yield clock, *two
    for replica in two:
        await replica.server.close()


async def test_a_pod_is_heard_by_every_replica_and_goes_on_being_heard_when_the_authority_has_changed(
    replicas: tuple[Clock, Replica, Replica],
) -> None:
    clock, leader, standby = replicas
    before = leader.certificate.authority
    assert before == standby.certificate.authority
    running = [replica.pod(before, f"old-{index}") for index, replica in enumerate((leader, standby))]
    await leader.hears(running[0], 1)
    await standby.hears(running[1], 1)
    clock.now = datetime.now(UTC)
    await leader.certificate.step()
    after = leader.certificate.authority
    assert after != before
    assert after.endswith(before), "pods that are made now trust the replicas that have not looked yet"
    await leader.hears(leader.pod(before, "fresh-connection"), 2)
    await standby.hears(standby.pod(after, "new"), 1)
    await standby.certificate.step()
    await standby.hears(standby.pod(before, "another-fresh-connection"), 2)
    for replica, pod in zip((leader, standby), running, strict=True):
        await replica.hears(pod, 3)
    assert set(leader.got + standby.got) == {f"Bearer {TOKEN}"}


async def test_who_shows_a_certificate_of_a_stranger_is_told_nothing(
    replicas: tuple[Clock, Replica, Replica], installed: HttpKubeApi, caplog: pytest.LogCaptureFixture
) -> None:
    _, receiver, other = replicas
    await installed.patch(SECRETS, CERTIFICATE, {"data": None}, NAMESPACE)
    await other.certificate.step()  # an authority made anew: it has nothing to do with the one before
    pod = receiver.pod(other.certificate.authority, "wrong")
    pod.update(step=1)
    await asyncio.to_thread(pod.close)
    assert receiver.got == []
    assert f"{LOOPBACK}:{receiver.server.port} shows a certificate that is not trusted" in caplog.text
    assert TOKEN not in caplog.text


async def test_what_goes_to_somebody_who_speaks_no_tls_is_no_report(tmp_path: Path) -> None:
    heard = bytearray()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(65536))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(listen, LOOPBACK, 0)
    async with listener:
        token = tmp_path / "token"
        token.write_text(TOKEN)
        port = listener.sockets[0].getsockname()[1]
        pod = Reporter(Receiver(f"https://{LOOPBACK}:{port}/report", token), timeout=5)
        pod.update(step=1)
        await asyncio.to_thread(pod.close)
    assert heard[:1] == b"\x16", "a TLS handshake, and nothing else"
    assert TOKEN.encode() not in heard
    assert b"POST" not in heard


async def test_a_replica_without_a_secret_to_read_is_not_ready_and_makes_no_pods(installed: HttpKubeApi) -> None:
    await installed.delete(SECRETS, CERTIFICATE, NAMESPACE)
    certificate = OwnCertificate(installed, OPTIONS)
    running = asyncio.create_task(certificate.run())
    try:
        await asyncio.sleep(0)
        assert certificate.problem() == "no certificate yet"
        assert not certificate.loaded.is_set()
        await install_rights(installed)
        await asyncio.wait_for(certificate.loaded.wait(), 30)
    finally:
        running.cancel()
