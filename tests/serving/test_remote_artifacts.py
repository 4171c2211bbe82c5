"""Artifacts in an object store, through a real server that speaks S3."""

from pathlib import Path
from typing import Any

import pytest

from finetune_api.manifest import read_manifest
from finetune_serving.settings import ModelSource
from finetune_serving.startup import StartupError
from finetune_storage import open_storage
from finetune_storage.errors import UnavailableError
from finetune_storage.local import LocalStorage
from serving.in_process import load_source
from trainer.conftest import S3Server, s3, s3_endpoint

__all__ = ["s3", "s3_endpoint"]


def test_an_artifact_is_fetched_and_verified(s3: S3Server, classifier_folder: Path, tmp_path: Path) -> None:
    uri = f"s3://{s3.bucket}/models/tickets"
    open_storage(uri).upload(classifier_folder)
    _, digest = read_manifest(classifier_folder)
    loaded = load_source(ModelSource(uri=uri, scratch=tmp_path, digest=digest))
    assert loaded.description.labels == ["billing", "bug", "praise"]


def test_storage_that_does_not_answer_for_a_while_ends_no_server(
    classifier_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three restarts would have its version rolled back for good."""
    fetch, silences = LocalStorage.fetch, [0]

    def busy(self: LocalStorage, *arguments: Any, **options: Any) -> Path:
        silences[0] -= 1
        if silences[0] >= 0:
            raise UnavailableError(f"{self.uri}: Stale file handle")
        return fetch(self, *arguments, **options)

    monkeypatch.setattr(LocalStorage, "fetch", busy)
    monkeypatch.setattr("finetune_serving.artifact.PAUSES", (0.0, 0.0))
    source = ModelSource(uri=str(classifier_folder), scratch=tmp_path)
    silences[0] = 2
    assert load_source(source).description.labels
    silences[0] = 3
    with pytest.raises(StartupError, match="Stale file handle"):
        load_source(source)


def test_a_missing_artifact_is_named(s3: S3Server, tmp_path: Path) -> None:
    uri = f"s3://{s3.bucket}/nowhere"
    with pytest.raises(StartupError, match=uri):
        load_source(ModelSource(uri=uri, scratch=tmp_path))
