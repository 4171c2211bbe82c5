"""Words that people read in conditions, events and attempts."""

from itertools import chain
from pathlib import Path

from finetune_operator.plan.causes import Cause
from finetune_operator.plan.reasons import Reason

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
PLAIN = {Reason.VALID, Reason.FAILED}
"""What they say is what they are."""


def test_each_reason_and_cause_is_explained() -> None:
    page = PAGE.read_text()
    assert [word for word in chain(Reason, Cause) if word not in PLAIN and f"`{word}`" not in page] == []
