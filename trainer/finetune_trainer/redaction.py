"""Keeps credentials out of what a pod says: its log, and its last words, which end up in the status of the job.

Libraries put endpoints, headers and whole configurations into their errors. What the environment and the mounted
Secrets hold is replaced by its value wherever it would show, and what looks like a secret by its form.
"""

import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, quote_plus

from finetune_api.masking import MASK, is_secret_name, mask
from finetune_api.names import ENV_SECRET_PATHS, ENV_SECRET_VARIABLES

__all__ = ["MASK", "RedactingFormatter", "redact", "secrets_of"]

SHORTEST = 6
"""A shorter value stands in too many innocent words."""
WHOLE_WORD = 12
"""Shorter values are masked as whole words only."""
INNOCENT = frozenset({"default", "disabled", "enabled", "required", "optional", "anonymous", "password", "secret"})
LARGEST_FILE = 64 * 1024
MOST_FILES = 100


def secrets_of(environment: Mapping[str, str]) -> frozenset[str]:
    """Values of the variables that are secret by their name, or because the operator says that a Secret holds them,
    and of the files in the folders where it says that Secrets are mounted."""
    declared = environment.get(ENV_SECRET_VARIABLES, "").split(",")
    values = [value for name, value in environment.items() if name in declared or is_secret_name(name)]
    return frozenset(
        part for value in (*values, *_files(environment.get(ENV_SECRET_PATHS, ""))) for part in _parts(value)
    )


def redact(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The text without what `environment` holds of secrets, and without what looks like one."""
    if pattern := _pattern(secrets_of(environment)):
        text = pattern.sub(MASK, text)
    return mask(text)


def _parts(value: str) -> Iterator[str]:
    """The value, and each line of it: logs are masked line by line."""
    for part in {value.strip(), *(line.strip() for line in value.splitlines())}:
        if len(part) >= SHORTEST and part.lower() not in INNOCENT and not part.startswith("-----"):
            yield part


@lru_cache(maxsize=8)
def _files(paths: str) -> tuple[str, ...]:
    """Contents of the mounted Secrets, as they were when they were first looked at."""
    found = (path for root in paths.split(os.pathsep) if root for path in _below(Path(root)))
    return tuple(text for path, _ in zip(found, range(MOST_FILES), strict=False) if (text := _text_of(path)))


def _below(root: Path) -> Iterable[Path]:
    return [root] if root.is_file() else sorted(path for path in root.glob("*") if path.is_file())


def _text_of(path: Path) -> str:
    try:
        return path.read_text()[:LARGEST_FILE]
    except (OSError, UnicodeDecodeError):
        return ""  # not for this process to read, so not for it to tell; or no text


@lru_cache(maxsize=8)
def _pattern(secrets: frozenset[str]) -> re.Pattern[str] | None:
    """Longest first, so that no part of one is left when it contains another."""
    forms = {form for secret in secrets for form in _forms(secret)}
    return re.compile("|".join(map(_found, sorted(forms, key=len, reverse=True)))) if forms else None


def _forms(secret: str) -> set[str]:
    """As it is, and as it stands in URLs, in JSON and in the repr of a string."""
    return {
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        quote(secret),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
    }


def _found(form: str) -> str:
    return re.escape(form) if len(form) >= WHOLE_WORD else rf"(?<!\w){re.escape(form)}(?!\w)"


class RedactingFormatter(logging.Formatter):
    """Tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))
