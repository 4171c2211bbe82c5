"""Keeps credentials out of what a pod says: its log, and its last words, which end up in the status of the job.

Libraries put endpoints, headers and whole configurations into their errors. What the environment and the mounted
Secrets hold is replaced by its value wherever it would show, and what looks like a secret by its form.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
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
MOST_KEPT = 3 * MOST_FILES


def redact(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The text without what `environment` holds of secrets, and without what looks like one."""
    declared = environment.get(ENV_SECRET_VARIABLES, "").split(",")
    values = tuple(value for name, value in environment.items() if name in declared or is_secret_name(name))
    forms = _forms((*values, *_mounted(environment.get(ENV_SECRET_PATHS, "")).values()))
    # To look for each form costs less than one expression for all of them.
    if shown := tuple(expression for form, expression in forms.items() if form in text):
        text = _pattern(shown).sub(MASK, text)
    return mask(text)


@lru_cache(maxsize=8)
def _forms(values: tuple[str, ...]) -> dict[str, str]:
    """Each form of a secret and the expression that finds it; longest first, so that no part of one is left when it
    contains another."""
    secrets = {part for value in values for part in parts_of(value)}
    written = {form: _found(form) for secret in secrets for form in written_forms(secret)}
    encoded = {form: re.escape(form) for secret in secrets for form in encoded_forms(secret)}
    return dict(sorted((encoded | written).items(), key=lambda one: len(one[0]), reverse=True))


def _found(form: str) -> str:
    return re.escape(form) if len(form) >= WHOLE_WORD else rf"{BEGIN}{re.escape(form)}(?!\w)"


@lru_cache(maxsize=64)
def _pattern(expressions: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(expressions))


class _Mounted:
    """Contents of mounted Secrets: as they are, and as they were before the kubelet changed them, for who has read them
    then goes on to tell them."""

    def __init__(self, paths: str) -> None:
        self._roots = [Path(root) for root in paths.split(os.pathsep) if root]
        self._versions: list[tuple[int, int]] | None = None
        self._values: tuple[str, ...] = ()

    def values(self) -> tuple[str, ...]:
        """Read anew when they have changed."""
        versions = [_version(root) for root in self._roots]
        if versions != self._versions:
            self._versions = versions
            paths = islice((path for root in self._roots for path in _below(root)), MOST_FILES)
            texts = [text for path in paths if (text := _text_of(path))]
            self._values = tuple(dict.fromkeys((*texts, *self._values)))[:MOST_KEPT]
        return self._values


_mounted = lru_cache(maxsize=8)(_Mounted)


def _version(root: Path) -> tuple[int, int]:
    """Of a mounted folder: when it has written new files, the kubelet puts another link in this place."""
    try:
        found = os.lstat(root / "..data")
    except OSError:
        return 0, 0  # one file alone, which stays as it is
    return found.st_ino, found.st_mtime_ns


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
