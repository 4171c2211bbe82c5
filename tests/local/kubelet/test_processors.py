"""A container's CPU limit decides on how many processors it runs."""

from typing import Any

import pytest

from finetune_local.kubelet.processors import allowed_processors

FOUR = [0, 1, 2, 3]


def limited(cpu: str | int | None) -> dict[str, Any]:
    return {"resources": {"limits": {"cpu": cpu}}} if cpu is not None else {}


@pytest.mark.parametrize(
    ("cpu", "count"), [("1", 1), (2, 2), ("500m", 1), ("1500m", 2), ("4", 4), ("64", 4), (None, 4)]
)
def test_the_limit_is_rounded_up_and_never_above_what_there_is(cpu: str | int | None, count: int) -> None:
    assert len(allowed_processors(limited(cpu), "127.9.0.1", FOUR)) == count


def test_pods_with_neighbouring_addresses_get_different_processors() -> None:
    first, second = (allowed_processors(limited("2"), ip, FOUR) for ip in ("127.9.0.8", "127.9.0.9"))
    assert not set(first) & set(second)
