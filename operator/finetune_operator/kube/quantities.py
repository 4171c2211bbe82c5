"""Kubernetes quantities ("500m", "1.5Gi", 2) as exact numbers."""

import re
from decimal import Decimal

_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
_PATTERN = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|)")


def is_quantity(text: str) -> bool:
    """Whether `parse_quantity` would take it."""
    return _PATTERN.fullmatch(text) is not None


def parse_quantity(value: str | int | float) -> Decimal:
    """Value of a quantity in its base unit (cores, bytes, pieces)."""
    match = _PATTERN.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(f"quantity {value!r}: must be a number with an optional suffix such as m, Ki, Mi or Gi")
    return Decimal(match[1]) * _SUFFIXES[match[2]]
