import re

import pytest

from finetune_operator.plan.names import attempt_name, master_port, model_version_names, short_name

LABEL = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
NAMES = ["tickets", "2026-tickets", "a" * 253, "team.tickets-2026", "x" * 54, "x" * 55, "x" * 56 + "-y"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", [1, 10, 1000])
def test_attempt_names_fit_services_and_indexed_pods(name: str, number: int) -> None:
    attempt = attempt_name(name, number)
    assert LABEL.match(attempt)
    assert attempt.endswith(f"-{number}")
    assert len(f"{attempt}-1023") <= 63


def test_shortened_names_stay_apart() -> None:
    names = {attempt_name("x" * 60 + end, 1) for end in ("a", "b", "c")} | {
        attempt_name("a.b", 1),
        attempt_name("a-b", 1),
    }
    assert len(names) == 5


def test_short_names_are_left_alone() -> None:
    assert short_name("tickets") == "tickets"
    assert attempt_name("tickets", 3) == "tickets-3"


def test_rendezvous_ports_are_in_range_and_differ() -> None:
    ports = {master_port(f"uid-{uid}", number) for uid in range(20) for number in range(1, 6)}
    assert all(20_000 <= port < 30_000 for port in ports)
    assert len(ports) > 95


def test_a_version_is_named_by_job_and_digest() -> None:
    first, second = model_version_names("tickets", "sha256:9c2e1f00aa11bb22")
    assert (first, second) == ("tickets-9c2e", "tickets-9c2e1f00aa11")
    assert max(map(len, model_version_names("x" * 200, "sha256:" + "a" * 64))) <= 63
