"""Names of checkpoints, and which of them may go."""

import pytest

from finetune_trainer.checkpoint.backend import decode_pin, encode_pin, name_of, newest_first, step_of
from finetune_trainer.checkpoint.retention import surplus


def test_newest_first_is_by_step_and_not_by_text() -> None:
    names = ["step-00000009", "step-100000000", "step-00000010-2", "step-00000010", "tmp-step-00000011", "best.json"]

    assert newest_first(names) == ["step-100000000", "step-00000010-2", "step-00000010", "step-00000009"]


def test_a_step_that_was_saved_before_gets_a_number() -> None:
    assert name_of(7, []) == "step-00000007"
    assert name_of(7, ["step-00000007", "step-00000008"]) == "step-00000007-2"
    assert name_of(7, ["step-00000007", "step-00000007-2"]) == "step-00000007-3"
    assert step_of("step-00000007-3") == 7


def test_two_attempts_never_save_under_one_name() -> None:
    """A bucket shows nothing of an upload before its first file is whole."""
    assert name_of(7, [], attempt=2) == "step-00000007-2"
    assert name_of(7, ["step-00000007"]) != name_of(7, ["step-00000007"], attempt=2)


@pytest.mark.parametrize("data", [None, b"", b"[]", b"{", b'{"checkpoint": "../x"}', b'{"checkpoint": 1}'])
def test_a_pin_that_cannot_be_understood_pins_nothing(data: bytes | None) -> None:
    assert decode_pin(data) is None
    assert decode_pin(encode_pin("step-00000001")) == "step-00000001"


@pytest.mark.parametrize(
    ("keep", "best", "damaged", "gone"),
    [
        (1, None, (), ["3", "2", "1"]),
        (2, None, (), ["2", "1"]),
        (2, "1", (), ["2"]),
        (2, None, ("3",), ["3", "1"]),
        (9, None, ("4",), []),
        (1, "2", ("1", "3"), ["3", "1"]),
    ],
)
def test_what_may_go(keep: int, best: str | None, damaged: tuple[str, ...], gone: list[str]) -> None:
    assert surplus(["4", "3", "2", "1"], keep, "4", best, damaged) == gone
