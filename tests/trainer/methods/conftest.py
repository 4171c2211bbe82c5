"""The tiny models and data of this folder's tests."""

from pathlib import Path

import pytest

from trainer.model_fixtures import (  # noqa: F401
    questions,
    tickets,
    tiny_bert,
    tiny_gpt2,
    tiny_llama,
    tiny_qwen,
)


@pytest.fixture(scope="session")
def wild_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose random weights tell texts apart, so that a few steps suffice."""
    from trainer import tiny_models

    return tiny_models.bert(tmp_path_factory.mktemp("wild-bert"), spread=0.2)
