"""Whole matrices take longer than a check of every commit may: `make test` runs a part, `make test-exhaustive` all."""

import os
from collections.abc import Collection
from typing import TypeVar

import pytest

EXHAUSTIVE = os.environ.get("FINETUNE_EXHAUSTIVE_TESTS") == "1"
exhaustive = pytest.mark.skipif(not EXHAUSTIVE, reason="run by make test-exhaustive")
Value = TypeVar("Value")


def some_of(cases: dict[str, Value], usual: Collection[str]) -> dict[str, Value]:
    """All cases, or the usual ones."""
    return {name: case for name, case in cases.items() if EXHAUSTIVE or name in usual}
