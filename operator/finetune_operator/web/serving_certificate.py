"""A certificate authority of our own: made, renewed and rotated as a pure function of the time.

The Secret holds `ca.crt` (the newest authority first, the ones before it after it), `ca.key` (of the newest), `tls.crt`
and `tls.key`. A new authority is also signed by the one before it, and that signature is served with each certificate
(RFC 4158, cross-certification): who knows the old authority alone, as pods that are older than the new one, goes on
trusting the server for as long as the old one is valid.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFETIME = timedelta(days=5 * 365)
SERVER_LIFETIME = timedelta(days=90)
BACKDATED = timedelta(minutes=5)
"""Clocks of those that verify may be behind ours."""
CA, CA_KEY, CERTIFICATE, KEY = "ca.crt", "ca.key", "tls.crt", "tls.key"
Files = Mapping[str, bytes]


def renewed(files: Files, names: Sequence[str], now: datetime) -> dict[str, bytes] | None:
    """The files as they should be now; None when they are. Files that cannot be read are made anew."""
    authorities = _authorities(files, now)
    if not authorities or _is_due(authorities[0], now):
        return _with_new_authority(files, authorities, names, now)
    server, newest = _server(files), authorities[0]
    if server is None or _is_due(server, now) or not _signed_by(server, newest) or _names_of(server) != _values(names):
        return dict(files) | _issue(newest, _key(files[CA_KEY]), names, now, _links(files, newest, now))
    return None


def _with_new_authority(
    files: Files, before: list[x509.Certificate], names: Sequence[str], now: datetime
) -> dict[str, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    authority = _make_authority(key, now)
    links = [_cross_signed(authority, before[0], _key(files[CA_KEY]), now)] if before else []
    made = {CA: b"".join(map(_pem, (authority, *before))), CA_KEY: _private_pem(key)}
    return made | _issue(authority, key, names, now, links)


def _links(files: Files, authority: x509.Certificate, now: datetime) -> list[x509.Certificate]:
    """Signatures of older authorities under this one, as they are served with the certificate until now."""
    try:
        served = x509.load_pem_x509_certificates(files[CERTIFICATE])[1:]
    except (KeyError, ValueError):
        return []
    return [one for one in served if one.subject == authority.subject and one.not_valid_after_utc > now]


def _authorities(files: Files, now: datetime) -> list[x509.Certificate]:
    """Those that are still valid, if the key of the newest is there."""
    try:
        found = x509.load_pem_x509_certificates(files[CA])
        if _key(files[CA_KEY]).public_key() != found[0].public_key():
            return []
    except (KeyError, ValueError):
        return []
    return [one for one in found if one.not_valid_after_utc > now]


def _server(files: Files) -> x509.Certificate | None:
    try:
        certificate = x509.load_pem_x509_certificate(files[CERTIFICATE])
        fits = _key(files[KEY]).public_key() == certificate.public_key()
    except (KeyError, ValueError):
        return None
    return certificate if fits else None


def _is_due(certificate: x509.Certificate, now: datetime) -> bool:
    """A third of its life is left, time to find out that renewal fails; or a clock that was ahead has made it."""
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return now >= certificate.not_valid_after_utc - lifetime / 3 or now < certificate.not_valid_before_utc


def _signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _names_of(certificate: x509.Certificate) -> set[Any]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {*names.get_values_for_type(x509.DNSName), *names.get_values_for_type(x509.IPAddress)}


def _values(names: Sequence[str]) -> set[Any]:
    """An address may be written in several ways."""
    return {_general_name(name).value for name in names}


def _make_authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    # The serial keeps one authority's name apart from the next one's, by which verifiers look for the issuer.
    name = _name(f"finetune-operator {x509.random_serial_number():x}"[:64])
    # Room for one authority below it: the one that comes after it.
    return _authority(_builder(name, name, key.public_key(), now, AUTHORITY_LIFETIME), 1).sign(key, hashes.SHA256())


def _cross_signed(
    authority: x509.Certificate, signer: x509.Certificate, key: ec.EllipticCurvePrivateKey, now: datetime
) -> x509.Certificate:
    """The new authority's name and key, under the signature of the one before it."""
    public_key = authority.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    builder = _builder(authority.subject, signer.subject, public_key, now, signer.not_valid_after_utc - now)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return _authority(builder, 0).add_extension(identifier, critical=False).sign(key, hashes.SHA256())


def _authority(builder: x509.CertificateBuilder, path_length: int) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True).add_extension(
        usage, critical=True
    )


def _issue(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    names: Sequence[str],
    now: datetime,
    links: Sequence[x509.Certificate],
) -> dict[str, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    lifetime = min(SERVER_LIFETIME, authority.not_valid_after_utc - now)
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    certificate = (
        _builder(_name(names[0][:64]), authority.subject, key.public_key(), now, lifetime)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return {CERTIFICATE: b"".join(map(_pem, (certificate, *links))), KEY: _private_pem(key)}


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer, subject, key, x509.random_serial_number(), now - BACKDATED, now + lifetime
    ).add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not a key of ours")
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
