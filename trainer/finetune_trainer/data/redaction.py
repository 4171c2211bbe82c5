"""Personal data by pattern: what it looks like, and whether it is what it seems."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from finetune_api.data_preparation import Redaction
from finetune_trainer.data.personal_numbers import card_end, iban_end, ip_end, phone_end

BLANK = " \u00a0\u202f"
DASH = "\u2010-\u2013-"
"""Last in a class of characters."""
DATE = r"(?:\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{4})(?![-./]?\d)"
TIME = r"(?:[ T]\d{1,2}[:.]\d{2}(?:[:.]\d{2})?(?:[.,]\d+)?)?"


@dataclass(frozen=True)
class Kind:
    """Where it may begin, and where it ends.

    `pattern` may have a group `other`: what is none, and is passed over as a whole.
    """

    pattern: re.Pattern[str]
    end: Callable[[re.Match[str]], int | None] = re.Match.end
    """Of what begins with the match; None where it only looks like it."""


KINDS: dict[str, Kind] = {
    # In this order: an IBAN or a card number holds digits that look like a telephone's.
    "Email": Kind(
        re.compile(
            r"(?<![\w.+-])[\w.+-]+(?:['’][\w.+-]+){0,3}@(?:[\w-]+\.)+"
            r"(?:[^\W\d_]{2,}|xn--[\w-]+)(?!\w)"  # no package@1.2.0
        )
    ),
    "Iban": Kind(re.compile(rf"\b[A-Za-z]{{2}}\d{{2}}(?:[\s{BLANK}{DASH}]?[A-Za-z0-9]){{11,30}}"), iban_end),
    "CreditCard": Kind(re.compile(rf"(?<![\d.])\d(?:[{BLANK}{DASH}]?\d){{12,18}}"), card_end),
    "IpAddress": Kind(
        re.compile(
            r"(?<![\w.])(?<![A-Za-z]/)\d{1,3}(?:\.\d{1,3}){3}(?!\.?\w)"
            r"|(?<![\w.:])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?::\d{1,3}(?:\.\d{1,3}){3})?(?![\w:]|\.\d)"
        ),
        ip_end,
    ),
    "Phone": Kind(
        re.compile(
            rf"(?<![\w.])(?P<other>{DATE}{TIME})|(?<![\w.])(?:\+|00)?\(?\d(?:[{BLANK}()./{DASH}]{{0,2}}\d){{8,14}}(?!\w)"
        ),
        phone_end,
    ),
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
        kept, done, at = list[str](), 0, 0
        while match := kind.pattern.search(text, at):
            end = kind.end(match)
            if end is None or end == match.start():
                other = match.groupdict().get("other")
                at = match.start() + len(other or " ")
                continue
            kept += [text[done : match.start()], f"[{name}]"]
            done = at = end
            self.counts[name] += 1
        return "".join([*kept, text[done:]])
