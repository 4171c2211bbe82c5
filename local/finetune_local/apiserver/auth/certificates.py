"""The cluster's certificate authority, server certificate and admin certificate, made afresh or kept in a folder."""

import os
import pathlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=3650)
SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
FILES = ("ca.crt", "ca.key", "server.crt", "server.key", "admin.crt", "admin.key", "service-account.key")


@dataclass(frozen=True)
class Pki:
    """PEM files in one folder; keys are readable by their owner only."""

    folder: pathlib.Path

    def path(self, name: str) -> pathlib.Path:
        return self.folder / name

    def read(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    def server_context(self) -> ssl.SSLContext:
        """Serves TLS; a client certificate is checked when the client has one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path("server.crt"), self.path("server.key"))
        context.load_verify_locations(self.path("ca.crt"))
        context.verify_mode = ssl.CERT_OPTIONAL
        context.set_alpn_protocols(["http/1.1"])
        return context


def ensure_pki(folder: pathlib.Path, addresses: tuple[str, ...] = ("127.0.0.1", "::1")) -> Pki:
    """The keys in `folder`, created if any is missing."""
    pki = Pki(folder)
    if not all(pki.path(name).exists() for name in FILES):
        folder.mkdir(parents=True, exist_ok=True)
        _create(pki, addresses)
    return pki


def _create(pki: Pki, addresses: tuple[str, ...]) -> None:
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = _subject("finetune-local-ca")
    ca = _builder(ca_name, ca_name, ca_key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    ca = ca.add_extension(_key_usage(signs_certificates=True), critical=True)
    ca_certificate = ca.sign(ca_key, hashes.SHA256())
    _write_pair(pki, "ca", ca_certificate, ca_key)

    names: list[x509.GeneralName] = [x509.DNSName(name) for name in SERVER_NAMES]
    names += [x509.IPAddress(ip_address(address)) for address in addresses]
    server_key = ec.generate_private_key(ec.SECP256R1())
    server = _builder(_subject("kube-apiserver"), ca_name, server_key)
    server = server.add_extension(x509.SubjectAlternativeName(names), critical=False)
    _write_pair(pki, "server", _issue(server, ExtendedKeyUsageOID.SERVER_AUTH, ca_key), server_key)

    admin_key = ec.generate_private_key(ec.SECP256R1())
    admin = _builder(_subject("kubernetes-admin", "system:masters"), ca_name, admin_key)
    _write_pair(pki, "admin", _issue(admin, ExtendedKeyUsageOID.CLIENT_AUTH, ca_key), admin_key)
    _write_key(pki.path("service-account.key"), ec.generate_private_key(ec.SECP256R1()))


def _subject(name: str, organization: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _issue(
    builder: x509.CertificateBuilder, usage: x509.ObjectIdentifier, ca_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return (
        builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(authority, critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write_pair(pki: Pki, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    pki.path(f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_key(pki.path(f"{name}.key"), key)


def _write_key(path: pathlib.Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
