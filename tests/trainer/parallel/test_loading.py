"""Of a model in shards only rank 0 reads the files, and no rank draws other weights than one process would."""

from pathlib import Path
from typing import Any

import pytest

from trainer.gangs import gang
from trainer.parallel.loading_runs import each_engine

ENGINES = ("fsdp", "zero-3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder of 50 MB in sixteen layers."""
    from transformers import BertConfig, BertModel

    from trainer import tiny_models

    tokens = tiny_models.encoder_tokenizer()
    size = {"hidden_size": 256, "num_hidden_layers": 16, "num_attention_heads": 4, "intermediate_size": 1024}
    model = BertModel(BertConfig(vocab_size=len(tokens), **size))
    return tiny_models.save(tmp_path_factory.mktemp("encoder"), model, tokens)


@pytest.fixture(scope="module")
def ranks(folder: Path, tiny_bert: Path) -> list[Any]:
    return gang(each_engine, folder, tiny_bert)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_rank_without_the_files_takes_memory_for_little_more_than_its_half(
    engine: str, ranks: list[Any], folder: Path
) -> None:
    whole = (folder / "model.safetensors").stat().st_size
    grown, _ = ranks[1][engine]
    assert grown < 0.9 * whole


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_new_heads_and_adapters_are_those_of_one_process(engine: str, ranks: list[Any]) -> None:
    assert [rank[engine][1] for rank in ranks] == [[], []]
