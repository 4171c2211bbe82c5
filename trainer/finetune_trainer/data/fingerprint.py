"""Which data it was: a digest of the files' contents."""

import hashlib
from pathlib import Path

from finetune_api.dataset import DataFormat
from finetune_trainer.data.reading import data_files


def fingerprint(sources: dict[str, tuple[Path, DataFormat]]) -> str:
    """sha256 over part names and file contents. File names and times do not count, their order does."""
    digest = hashlib.sha256()
    for part, (path, data_format) in sorted(sources.items()):
        for file, _ in data_files(path, data_format, part):
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(f"{part}:{content}\n".encode())
    return f"sha256:{digest.hexdigest()}"
