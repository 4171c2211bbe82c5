"""The quickstart's tickets: enough of them, balanced, and nothing in the test file that training has seen."""

import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "examples" / "quickstart" / "data"
QUEUES = {"account", "billing", "delivery", "feedback", "product-question", "returns", "technical"}
FILES = {"train": 700, "test": 140}
NEAR_DUPLICATE = 0.7

Ticket = dict[str, str]


def tickets(name: str) -> list[Ticket]:
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def words(ticket: Ticket) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", ticket["body"].lower()))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)


@pytest.mark.parametrize(("name", "at_least"), FILES.items())
def test_every_queue_has_its_share(name: str, at_least: int) -> None:
    counts = Counter(ticket["queue"] for ticket in tickets(name))
    assert counts.total() >= at_least
    assert set(counts) == QUEUES
    assert max(counts.values()) <= 1.25 * min(counts.values()), counts


@pytest.mark.parametrize("name", FILES)
def test_a_ticket_is_a_body_of_some_words_and_a_queue(name: str) -> None:
    for ticket in tickets(name):
        assert set(ticket) == {"body", "queue"}
        assert ticket["body"] == ticket["body"].strip()
        assert 3 <= len(ticket["body"].split()) <= 60, ticket


def test_no_two_tickets_are_alike_within_or_across_the_files() -> None:
    everything = [(ticket, words(ticket)) for name in FILES for ticket in tickets(name)]
    alike = [
        (first["body"], second["body"])
        for (first, these), (second, those) in combinations(everything, 2)
        if jaccard(these, those) >= NEAR_DUPLICATE
    ]
    assert alike == []


def test_no_opening_is_repeated_often() -> None:
    openings = Counter(" ".join(ticket["body"].lower().split()[:4]) for name in FILES for ticket in tickets(name))
    opening, count = openings.most_common(1)[0]
    assert count <= 10, f"{count} tickets begin with {opening!r}"
