"""Which data it was: a digest of the files' contents."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from finetune_api.dataset import DataFormat
from finetune_trainer.data.class_folders import media_files
from finetune_trainer.data.parts import Parts, field_of
from finetune_trainer.data.reading import data_files
from finetune_trainer.data.spool import Examples


def fingerprint(sources: dict[str, tuple[Path, DataFormat]]) -> str:
    """sha256 over part names and file contents. File names and times do not count, their order does; where folders are
    classes, the class of each file counts.
    """
    digest = hashlib.sha256()
    for part, (path, data_format) in sorted(sources.items()):
        for file, label in _files(path, data_format, part):
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(f"{part}:{label}{content}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def with_contents(digest: str, parts: Parts) -> str:
    """`digest` with the contents of the files that the rows name."""
    whole = hashlib.sha256(digest.encode())
    for _, examples in parts.items():
        for example in examples:
            whole.update(example.identity)
    return f"sha256:{whole.hexdigest()}"


def held_out(parts: Parts) -> dict[str, str]:
    """sha256 of each held-out part that has examples: equal for the same inputs, in whatever order."""
    return {name: _of_inputs(examples) for name, examples in parts.items() if name != "train" and len(examples)}


def _of_inputs(examples: Examples) -> str:
    identities = examples.identities()
    in_order = identities[np.lexsort((identities[:, 1], identities[:, 0]))]
    return f"sha256:{hashlib.sha256(in_order.tobytes()).hexdigest()}"


def _files(path: Path, data_format: DataFormat, part: str) -> Iterator[tuple[Path, str]]:
    """Each file, with the class that its folder gives it."""
    for file, form in data_files(path, data_format, field_of(part)):
        if form == "ClassFolders":
            yield from ((one, f"{one.relative_to(file).parts[0]}/") for one in media_files(file))
        else:
            yield file, ""
