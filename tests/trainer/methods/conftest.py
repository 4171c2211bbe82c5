"""A tiny model for the tests of methods."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def wild_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose random weights tell texts apart, so that a few steps suffice."""
    from trainer import tiny_models

    return tiny_models.bert(tmp_path_factory.mktemp("wild-bert"), spread=0.2)
