"""What of a secret may show, and how: the parts of a file that holds several, and the forms that libraries write."""

import base64
import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from finetune_api.masking import is_secret_name

SHORTEST = 6
"""A shorter value stands in too many innocent words."""
LONGEST_ENCODED = 4096
INNOCENT = frozenset({"default", "disabled", "enabled", "required", "optional", "anonymous", "password", "secret"})
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?(?:-----END CERTIFICATE-----|\Z)", re.DOTALL)
"""Beside a key, or in a bundle of authorities: public, and thousands of lines."""
NAMED = re.compile(r"^[ \t-]*[\"']?([\w.-]+)[\"']?[ \t]*[:=][ \t]*(.+?),?[ \t]*$", re.MULTILINE)
"""A line of INI, YAML or .env, such as `aws_secret_access_key = …`."""
PAIR = re.compile(r"([\w.-]+)=([^\s;&]+)")
"""Of a connection string or a query."""
NETRC = re.compile(r"\b(password)\s+(\S+)")
USER = re.compile(r"://[^\s/:@]*:([^\s/@]+)@")
"""Of a URL."""


def parts_of(value: str) -> frozenset[str]:
    """What is secret in a variable or file: all of it, each line, for logs are masked line by line, and what stands in
    it under a name that speaks of a secret."""
    text = CERTIFICATE.sub("", value)
    found = (text, *text.splitlines(), *_named(text))
    return frozenset(part for one in found if _is_secret(part := one.strip()))


def _is_secret(part: str) -> bool:
    return len(part) >= SHORTEST and part.lower() not in INNOCENT and not part.startswith("-----")


def _named(text: str) -> Iterator[str]:
    if text.lstrip()[:1] in ("{", "["):
        with contextlib.suppress(ValueError, RecursionError):  # no JSON after all, and perhaps YAML
            yield from _leaves(json.loads(text), secret=False)
    pairs = (found.groups() for pattern in (NAMED, PAIR, NETRC) for found in pattern.finditer(text))
    yield from (value.strip("\"'") for name, value in pairs if is_secret_name(name))
    yield from (one for password in USER.findall(text) for one in (password, unquote(password)))


def _leaves(value: Any, *, secret: bool) -> Iterator[str]:
    """Texts under names of secrets, as in a .dockerconfigjson or the key of a service account."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, secret=is_secret_name(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, secret=secret)
    elif secret and isinstance(value, str):
        yield from (value, *value.splitlines())


def written_forms(secret: str) -> set[str]:
    """As it is, and as it stands in URLs, in JSON and in the repr of a string."""
    quoted = {quote(secret, safe=""), quote_plus(secret), quote(secret)}
    return {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1]} | quoted


def encoded_forms(secret: str) -> set[str]:
    """In base64, wherever in the encoded text it begins; less the first and last characters, which neighbours share."""
    if len(secret) > LONGEST_ENCODED:
        return set()
    raw = secret.encode("utf-8", "surrogateescape")
    found = set()
    for before in range(3):
        bits = 8 * before, 8 * (before + len(raw))
        text = base64.b64encode(b"\0" * before + raw).decode()[-(-bits[0] // 6) : bits[1] // 6]
        found |= {text, text.translate(str.maketrans("+/", "-_"))}
    return found
