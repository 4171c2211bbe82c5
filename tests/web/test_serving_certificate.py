"""The webhooks' own certificate authority: renewed in time, rotated without a gap in trust."""

import ssl
from datetime import UTC, datetime

import pytest
from cryptography import x509

from finetune_operator.web.serving_certificate import (
    AUTHORITY_LIFETIME,
    CA,
    CA_KEY,
    CERTIFICATE,
    KEY,
    SERVER_LIFETIME,
    TRUSTED_BEFORE_USE,
    renewed,
)

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
NAMES = ("finetune-operator-webhooks.finetune-system.svc", "127.0.0.1")


def made(now: datetime = NOW) -> dict[str, bytes]:
    files = renewed({}, NAMES, now)
    assert files is not None
    return files


def authorities(files: dict[str, bytes]) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(files[CA])


def server(files: dict[str, bytes]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files[CERTIFICATE])


def test_the_first_certificate_comes_from_nothing_and_stays() -> None:
    files = made()
    server(files).verify_directly_issued_by(authorities(files)[0])
    names = server(files).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [NAMES[0]]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == [NAMES[1]]
    assert renewed(files, NAMES, NOW) is None
    assert renewed(files, NAMES, NOW + SERVER_LIFETIME / 2) is None
    ssl.create_default_context(cadata=files[CA].decode())


def test_a_server_certificate_is_renewed_when_a_third_of_its_life_is_left() -> None:
    files = made()
    later = NOW + SERVER_LIFETIME * 0.7
    fresh = renewed(files, NAMES, later)
    assert fresh is not None
    assert (fresh[CA], fresh[CA_KEY]) == (files[CA], files[CA_KEY])
    assert server(fresh).not_valid_after_utc == later + SERVER_LIFETIME
    assert renewed(fresh, NAMES, later) is None


def test_another_name_needs_another_certificate() -> None:
    fresh = renewed(made(), ("other.ns.svc",), NOW)
    assert fresh is not None
    assert fresh[CA] == made()[CA] or len(authorities(fresh)) == 1
    assert renewed(fresh, ("other.ns.svc",), NOW) is None


def test_a_new_authority_is_trusted_for_an_hour_before_it_signs() -> None:
    start = NOW + AUTHORITY_LIFETIME * 0.6
    old = renewed(made(), NAMES, start)  # a fresh server certificate by the first authority
    assert old is not None
    later = NOW + AUTHORITY_LIFETIME * 0.7
    overlap = renewed(old, NAMES, later)
    assert overlap is not None
    new, before = authorities(overlap)
    assert (overlap[CERTIFICATE], overlap[KEY]) == (old[CERTIFICATE], old[KEY])
    server(overlap).verify_directly_issued_by(before)
    assert renewed(overlap, NAMES, later + TRUSTED_BEFORE_USE / 2) is None
    switched = renewed(overlap, NAMES, later + TRUSTED_BEFORE_USE)
    assert switched is not None
    server(switched).verify_directly_issued_by(new)
    assert authorities(switched) == [new, before]
    assert renewed(switched, NAMES, later + TRUSTED_BEFORE_USE) is None


@pytest.mark.parametrize("broken", [CA, CA_KEY, CERTIFICATE, KEY])
def test_what_cannot_be_read_is_made_anew(broken: str) -> None:
    files = made() | {broken: b"nonsense"}
    fresh = renewed(files, NAMES, NOW)
    assert fresh is not None
    server(fresh).verify_directly_issued_by(authorities(fresh)[0])
    assert renewed(fresh, NAMES, NOW) is None


def test_a_key_of_someone_else_counts_as_broken() -> None:
    fresh = renewed(made() | {KEY: made()[KEY]}, NAMES, NOW)
    assert fresh is not None
    assert renewed(made() | {CA_KEY: made()[CA_KEY]}, NAMES, NOW) is not None
