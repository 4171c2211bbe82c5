"""Personal data by pattern: what it looks like, and whether its check sum is right."""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from finetune_api.data_preparation import Redaction


@dataclass(frozen=True)
class Kind:
    """A pattern, and whether what it matches is what it seems."""

    pattern: re.Pattern[str]
    is_one: Callable[[str], bool] = lambda text: True


def right_card_number(text: str) -> bool:
    """ISO/IEC 7812: the digits add up (Luhn)."""
    digits = [int(c) for c in text if c.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and (sum(digits[::-2]) + sum(doubled)) % 10 == 0


def right_iban(text: str) -> bool:
    """ISO 13616: the rest by 97 is 1."""
    plain = re.sub(r"\s", "", text).upper()
    return 15 <= len(plain) <= 34 and int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def right_address(text: str) -> bool:
    """An IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def right_phone(text: str) -> bool:
    """ITU-T E.164: at most 15 digits; below 9 it is more likely another number."""
    return 9 <= sum(c.isdigit() for c in text) <= 15


KINDS: dict[str, Kind] = {
    # In this order: an IBAN or a card number holds digits that look like a telephone's.
    "Email": Kind(re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+")),
    "Iban": Kind(re.compile(r"\b[A-Za-z]{2}\d{2}(?:\s?[A-Za-z0-9]{4}){2,7}(?:\s?[A-Za-z0-9]{1,3})?\b"), right_iban),
    "CreditCard": Kind(re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?!\d)"), right_card_number),
    "IpAddress": Kind(
        re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?![\w:])"),
        right_address,
    ),
    "Phone": Kind(re.compile(r"(?<![\w.])(?:\+|00)?\(?\d(?:[ ()./-]{0,2}\d){8,14}(?!\w)"), right_phone),
}


class Redactor:
    """Replaces what the patterns match, and counts it by kind."""

    def __init__(self, redaction: Redaction) -> None:
        asked_for: set[str] = {*redaction.kinds}
        self._kinds = {name: kind for name, kind in KINDS.items() if name in asked_for}
        self._kinds |= {name: Kind(re.compile(pattern)) for name, pattern in redaction.patterns.items()}
        self.counts: Counter[str] = Counter()

    def __call__(self, text: str) -> str:
        for name, kind in self._kinds.items():
            text = self._without(text, name, kind)
        return text

    def _without(self, text: str, name: str, kind: Kind) -> str:
        def stand_in(match: re.Match[str]) -> str:
            if not kind.is_one(match[0]):
                return match[0]
            self.counts[name] += 1
            return f"[{name}]"

        return kind.pattern.sub(stand_in, text)
