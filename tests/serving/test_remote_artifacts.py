"""Artifacts in an object store, through a real server that speaks S3."""

from pathlib import Path

import pytest

from finetune_api.manifest import read_manifest
from finetune_serving.settings import ModelSource
from finetune_serving.startup import StartupError
from finetune_storage import open_storage
from serving.in_process import load_source
from trainer.conftest import S3Server, s3, s3_endpoint

__all__ = ["s3", "s3_endpoint"]


def test_an_artifact_is_fetched_and_verified(s3: S3Server, classifier_folder: Path, tmp_path: Path) -> None:
    uri = f"s3://{s3.bucket}/models/tickets"
    open_storage(uri).upload(classifier_folder)
    _, digest = read_manifest(classifier_folder)
    loaded = load_source(ModelSource(uri=uri, scratch=tmp_path, digest=digest))
    assert loaded.description.labels == ["billing", "bug", "praise"]


def test_a_missing_artifact_is_named(s3: S3Server, tmp_path: Path) -> None:
    uri = f"s3://{s3.bucket}/nowhere"
    with pytest.raises(StartupError, match=uri):
        load_source(ModelSource(uri=uri, scratch=tmp_path))
