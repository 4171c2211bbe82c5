"""TLS and in-cluster credentials, through the official package's configuration."""

import base64
import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubernetes.aio.config import incluster_config

from finetune_operator.kube.client import ApiError, HttpKubeApi
from finetune_operator.kube.credentials import load_credentials
from finetune_operator.kube.leader_election import LeadershipLost
from kube.conftest import write_kubeconfig
from kube.test_fence import THING, Lease
from kube.watcher import THINGS

Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def issue(common_name: str, issuer: Pair | None) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.datetime.now(datetime.UTC)
    signer = issuer[1] if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer[0].subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    )
    if issuer is None:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    return builder.sign(signer, hashes.SHA256()), key


def pem(pair: Pair) -> tuple[bytes, bytes]:
    certificate, key = pair
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.fixture
def authority() -> Pair:
    return issue("authority", None)


@pytest.fixture
def tls_context(authority: Pair, tmp_path: Path) -> ssl.SSLContext:
    """The server's."""
    certificate, key = pem(issue("server", authority))
    (tmp_path / "server.pem").write_bytes(certificate + key)
    (tmp_path / "ca.crt").write_bytes(pem(authority)[0])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca.crt"))
    context.load_cert_chain(tmp_path / "server.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


@pytest.fixture
async def tls_server(tls_context: ssl.SSLContext, authority: Pair):
    """(url, authority, seen): HTTPS that demands a client certificate where the test's client has one."""
    seen: list[tuple[str | None, object]] = []

    async def answer(request: web.Request) -> web.Response:
        peer = request.transport.get_extra_info("peercert") if request.transport else None
        seen.append((request.headers.get("Authorization"), peer))
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls_context).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}", authority, seen
    await runner.cleanup()


def kubeconfig(tmp_path: Path, url: str, authority: Pair, user: dict) -> str:
    path = write_kubeconfig(tmp_path / "kubeconfig", url, user)
    ca = base64.b64encode(pem(authority)[0]).decode()
    path.write_text(path.read_text().replace('"server"', f'"certificate-authority-data": "{ca}", "server"'))
    return str(path)


async def test_client_certificate_and_authority_from_the_kubeconfig(tls_server, tmp_path: Path) -> None:
    url, authority, seen = tls_server
    certificate, key = pem(issue("operator", authority))
    user = {
        "client-certificate-data": base64.b64encode(certificate).decode(),
        "client-key-data": base64.b64encode(key).decode(),
    }
    async with await HttpKubeApi.connect(kubeconfig(tmp_path, url, authority, user)) as api:
        await api.list(THINGS)
    (authorization, peer) = seen[0]
    assert authorization is None
    assert peer["subject"] == ((("commonName", "operator"),),)


async def test_server_of_another_authority_is_refused(tls_server, tmp_path: Path) -> None:
    url, _, seen = tls_server
    async with await HttpKubeApi.connect(kubeconfig(tmp_path, url, issue("other", None), {"token": "t"})) as api:
        with pytest.raises(ApiError, match=r"(?i)certificate"):
            await api.list(THINGS)
    assert seen == []


async def test_in_cluster_token_is_read_again(tls_server, tmp_path: Path, monkeypatch) -> None:
    url, _, seen = tls_server
    host, port = url.removeprefix("https://").split(":")
    token = tmp_path / "token"
    token.write_text("one\n")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    async with HttpKubeApi.with_credentials(await load_credentials(refresh_seconds=0.0)) as api:
        await api.list(THINGS)
        token.write_text("two\n")
        await api.list(THINGS)
    assert [authorization for authorization, _ in seen] == ["bearer one", "bearer two"]


async def test_a_lease_that_is_lost_while_connecting_lets_no_write_out(
    tls_server, tls_context: ssl.SSLContext, tmp_path: Path
) -> None:
    url, authority, seen = tls_server
    lease = Lease()
    tls_context.sni_callback = lambda *_: setattr(lease, "held", False)
    async with await HttpKubeApi.connect(kubeconfig(tmp_path, url, authority, {"token": "t"})) as api:
        with pytest.raises(LeadershipLost):
            await api.fenced(lease.check).create(THINGS, THING)
    assert seen == []
