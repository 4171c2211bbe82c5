"""Keeps credentials out of what a pod says: its log, and its last words, which end up in the status of the job.

Libraries put endpoints, headers and whole configurations into their errors. What the environment and the mounted
Secrets hold is replaced by its value wherever it would show, and what looks like a secret by its form.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from finetune_api.masking import MASK, is_secret_name, mask
from finetune_api.names import ENV_SECRET_PATHS, ENV_SECRET_VARIABLES
from finetune_trainer.secret_forms import encoded_forms, parts_of, written_forms

__all__ = ["MASK", "RedactingFormatter", "redact"]

WHOLE_WORD = 12
"""Shorter values are masked as whole words only."""
BEGIN = r"(?:(?<!\w)|(?<=\\[abfnrtv])|(?<=\\u[0-9A-Fa-f]{4})|(?<=%[0-9A-Fa-f]{2})|(?<=\x1b\[\dm)|(?<=\x1b\[\d\dm))"
"""Of a word: also behind an escape of Python, JSON, a URL or a terminal, which ends in a letter or digit."""
LARGEST_FILE = 64 * 1024
MOST_FILES = 100


def redact(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The text without what `environment` holds of secrets, and without what looks like one."""
    declared = environment.get(ENV_SECRET_VARIABLES, "").split(",")
    values = tuple(value for name, value in environment.items() if name in declared or is_secret_name(name))
    forms = _forms(values, environment.get(ENV_SECRET_PATHS, ""))
    # To look for each form costs less than one expression for all of them.
    if shown := tuple(expression for form, expression in forms.items() if form in text):
        text = _pattern(shown).sub(MASK, text)
    return mask(text)


@lru_cache(maxsize=8)
def _forms(values: tuple[str, ...], paths: str) -> dict[str, str]:
    """Each form of a secret and the expression that finds it; longest first, so that no part of one is left when it
    contains another."""
    secrets = {part for value in (*values, *_files(paths)) for part in parts_of(value)}
    written = {form: _found(form) for secret in secrets for form in written_forms(secret)}
    encoded = {form: re.escape(form) for secret in secrets for form in encoded_forms(secret)}
    return dict(sorted((encoded | written).items(), key=lambda one: len(one[0]), reverse=True))


def _found(form: str) -> str:
    return re.escape(form) if len(form) >= WHOLE_WORD else rf"{BEGIN}{re.escape(form)}(?!\w)"


@lru_cache(maxsize=64)
def _pattern(expressions: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(expressions))


@lru_cache(maxsize=8)
def _files(paths: str) -> tuple[str, ...]:
    """Contents of the mounted Secrets, as they were when they were first looked at."""
    found = (path for root in paths.split(os.pathsep) if root for path in _below(Path(root)))
    return tuple(text for path, _ in zip(found, range(MOST_FILES), strict=False) if (text := _text_of(path)))


def _below(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(one for one in folders if not one.startswith(".."))  # of the kubelet, where the links lead
        yield from (path for name in sorted(names) if (path := Path(folder, name)).is_file())


def _text_of(path: Path) -> str:
    try:
        return path.read_text()[:LARGEST_FILE]
    except (OSError, UnicodeDecodeError):
        return ""  # not for this process to read, so not for it to tell; or no text


class RedactingFormatter(logging.Formatter):
    """Tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))
