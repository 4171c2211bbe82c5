"""The operator's own certificate authority: renewed in time, rotated without a gap in trust."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from finetune_operator.web.serving_certificate import (
    AUTHORITY_LIFETIME,
    CA,
    CA_KEY,
    CERTIFICATE,
    KEY,
    SERVER_LIFETIME,
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


def verifies(files: dict[str, bytes], trusted: list[x509.Certificate], moment: datetime) -> bool:
    """As clients do who are strict about RFC 5280, as Python's are from 3.13 on."""
    leaf, *links = x509.load_pem_x509_certificates(files[CERTIFICATE])
    verifier = PolicyBuilder().store(Store(trusted)).time(moment).build_server_verifier(x509.DNSName(NAMES[0]))
    try:
        verifier.verify(leaf, links)
    except VerificationError:
        return False
    return True


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


def test_what_a_clock_that_was_ahead_has_made_is_made_anew() -> None:
    ahead = made(NOW + timedelta(days=400))
    mended = renewed(ahead, NAMES, NOW)
    assert mended is not None
    assert verifies(mended, authorities(mended)[:1], NOW)
    assert renewed(mended, NAMES, NOW) is None
    early = renewed(made() | {CERTIFICATE: b""}, NAMES, NOW + timedelta(days=30))
    assert early is not None
    back = renewed(early, NAMES, NOW)
    assert back is not None
    assert back[CA] == early[CA]
    assert verifies(back, authorities(back), NOW)


def test_an_address_may_be_written_in_several_ways() -> None:
    names = ("0:0:0:0:0:0:0:1",)
    files = renewed({}, names, NOW)
    assert files is not None
    assert renewed(files, names, NOW) is None


def test_another_name_needs_another_certificate() -> None:
    fresh = renewed(made(), ("other.ns.svc",), NOW)
    assert fresh is not None
    assert fresh[CA] == made()[CA] or len(authorities(fresh)) == 1
    assert renewed(fresh, ("other.ns.svc",), NOW) is None


def test_a_certificate_of_a_new_authority_is_trusted_by_who_knows_the_old_one_alone() -> None:
    start = NOW + AUTHORITY_LIFETIME * 0.6
    old = renewed(made(), NAMES, start)
    assert old is not None
    later = NOW + AUTHORITY_LIFETIME * 0.7
    rotated = renewed(old, NAMES, later)
    assert rotated is not None
    new, before = authorities(rotated)
    server(rotated).verify_directly_issued_by(new)
    again = renewed(rotated, NAMES, later + SERVER_LIFETIME * 0.7)
    assert again is not None
    stranger = authorities(made())
    for files, moment in ((rotated, later), (again, later + SERVER_LIFETIME * 0.7)):
        assert verifies(files, [before], moment)
        assert verifies(files, [new], moment)
        assert verifies(files, [new, before], moment)
        assert not verifies(files, stranger, moment)
    assert renewed(again, NAMES, later + SERVER_LIFETIME * 0.7) is None
    end = NOW + AUTHORITY_LIFETIME + timedelta(days=1)
    last = renewed(again, NAMES, end)
    assert last is not None
    assert verifies(last, [new], end)
    assert len(x509.load_pem_x509_certificates(last[CERTIFICATE])) == 1, "what has expired is not shown any more"


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
