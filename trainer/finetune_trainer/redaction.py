"""Keeps credentials out of what a pod says: its log, and its last words, which end up in the status of the job.

Libraries put endpoints, headers and whole configurations into their errors. What the environment calls a secret, and
the user part of any URL, is replaced wherever our own log and termination message would show it.
"""

import logging
import os
import re
from collections.abc import Mapping
from functools import lru_cache

MASK = "[redacted]"
SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_KEY", re.IGNORECASE)
NO_SECRET = re.compile(r"_(FILE|PATH|DIR|URL|URI|ENDPOINT|PARALLELISM)$", re.IGNORECASE)
"""Names that speak of a secret and hold something else."""
SHORTEST = 8
"""A shorter value stands in too many innocent words."""
USER_OF_URL = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")


def secrets_of(environment: Mapping[str, str]) -> frozenset[str]:
    """Values of the variables whose names speak of a secret."""
    return frozenset(
        value
        for name, value in environment.items()
        if SECRET_NAME.search(name) and not NO_SECRET.search(name) and len(value) >= SHORTEST
    )


def redact(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The text without what `environment` holds of secrets."""
    if pattern := _pattern(secrets_of(environment)):
        text = pattern.sub(MASK, text)
    return USER_OF_URL.sub(MASK, text)


@lru_cache(maxsize=8)
def _pattern(secrets: frozenset[str]) -> re.Pattern[str] | None:
    """Longest first, so that no part of one is left when it contains another."""
    return re.compile("|".join(map(re.escape, sorted(secrets, key=len, reverse=True)))) if secrets else None


class RedactingFormatter(logging.Formatter):
    """Tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))
