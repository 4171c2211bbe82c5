"""Numbers of persons: where one that begins at a match ends, None where nothing that begins there is one.

Words and numbers that follow are in the match too, as nothing but their sense parts them: the longest beginning that
adds up is the number.
"""

import ipaddress
import re
from collections.abc import Iterator

ISSUER = re.compile(r"2[2-7]|3[04-9]|4|5[0-8]|6|81")
"""What numbers of payment cards begin with (ISO/IEC 7812): the check digit is right for a tenth of all numbers."""
VERSION = re.compile(r"\b(?:version|release|build|firmware|ver|rev)\.?[\s:=]*$", re.IGNORECASE)
BEFORE = 16
"""Characters in which a word before a number is looked for."""


def card_end(match: re.Match[str]) -> int | None:
    """Of a card number: its digits add up (Luhn), and it is written in groups as cards have them, or stands alone."""
    if not ISSUER.match("".join(c for c in match[0] if c.isdigit())):
        return None
    ends = list(_group_ends(match))
    sizes = [len(group) for group in re.findall(r"\d+", match[0])]
    for count in range(len(ends), 0, -1):
        end = match.start() + ends[count - 1]
        whole = count == len(ends)
        if (whole or _are_groups_of_a_card(sizes[:count])) and right_card_number(match.string[match.start() : end]):
            return end
    return None


def right_card_number(text: str) -> bool:
    """ISO/IEC 7812: the digits add up (Luhn)."""
    digits = [int(c) for c in text if c.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and (sum(digits[::-2]) + sum(doubled)) % 10 == 0


def _are_groups_of_a_card(sizes: list[int]) -> bool:
    """4-4-4-4 and its like, 4-6-5 and 4-6-4, or one group."""
    return len(sizes) == 1 or sizes in ([4, 6, 5], [4, 6, 4]) or (set(sizes[:-1]) == {4} and sizes[-1] < 5)


def iban_end(match: re.Match[str]) -> int | None:
    """ISO 13616."""
    ends = (match.start() + end for end in reversed(list(_group_ends(match))))
    return next((end for end in ends if right_iban(match.string[match.start() : end])), None)


def right_iban(text: str) -> bool:
    """ISO 13616: the rest by 97 is 1."""
    plain = re.sub(r"[^A-Za-z0-9]", "", text).upper()
    return 15 <= len(plain) <= 34 and int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def ip_end(match: re.Match[str]) -> int | None:
    """Of an IPv4 or IPv6 address; a version number of four parts only says so by the word before it."""
    text = match[0] if match[0].endswith("::") else match[0].removesuffix(":")
    before = match.string[max(0, match.start() - BEFORE) : match.start()]
    # `A::B` and `::` are code.
    if not right_address(text) or VERSION.search(before) or not any(c.isdigit() for c in text):
        return None
    return match.start() + len(text)


def right_address(text: str) -> bool:
    """An IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def phone_end(match: re.Match[str]) -> int | None:
    """ITU-T E.164: at most 15 digits; below 9 it is more likely another number."""
    text = match[0]
    if match["other"] or not 9 <= sum(c.isdigit() for c in text) <= 15:
        return None
    dotted = (part for part in re.findall(r"[\d.]+", text) if "." in part.strip("."))
    if text[0] != "+" and not all(_has_parts_of_a_phone(part) for part in dotted):
        return None
    return match.end()


def _has_parts_of_a_phone(text: str) -> bool:
    """Numbers with dots may be decimals, versions and addresses too: 3.141592653, 10.0.19045.3570, 192.168.100.200."""
    first, *others = text.strip(".").split(".")
    if len(first) > 1 and first.startswith("0"):
        return True
    return len(others) > 1 and len(first) < 5 and all(2 <= len(o) < 5 for o in others) and not right_address(text)


def _group_ends(match: re.Match[str]) -> Iterator[int]:
    """Where groups of letters and digits end in the match; the last only if it is no part of a longer one."""
    last, text = match.end() - match.start(), match.string
    for group in re.finditer(r"[^\W_]+", match[0]):
        if group.end() < last or not text[match.end() : match.end() + 1].isalnum():
            yield group.end()
