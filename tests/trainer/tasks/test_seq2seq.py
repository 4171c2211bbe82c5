"""What is read and what is written."""

from pathlib import Path
from typing import Any

import pytest

from finetune_api.dataset import Columns
from finetune_trainer.data.encoded import encode
from finetune_trainer.data.reading import Row, Where
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.models.load import load_config
from finetune_trainer.tasks.seq2seq import WRITTEN, Seq2Seq

ROW = Row({"prompt": "one two three four", "completion": "five six"}, Where("d.jsonl", 1))


@pytest.fixture(scope="module")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from trainer import tiny_models

    return tiny_models.t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture
def task() -> Seq2Seq:
    return Seq2Seq(Columns())


def words(ids: Any, tokenizer: Any) -> str:
    return " ".join(tokenizer.convert_ids_to_tokens(ids))


def test_the_decoder_sees_what_comes_before_each_token(task: Seq2Seq, tiny_t5: Path) -> None:
    tokenizer = task.load_processor(tiny_t5)
    task.configure(load_config(tiny_t5, task), tokenizer, [])
    batch = task.collator(tokenizer)(encode(task.encode([task.read(ROW)], tokenizer, [])), [[0]])
    assert words(batch.inputs["input_ids"][0], tokenizer) == "one two three four </s>"
    assert words(batch.inputs["decoder_input_ids"][0], tokenizer) == "<pad> five six"
    assert words(batch.targets, tokenizer) == "five six </s>"


@pytest.mark.parametrize(
    ("max_length", "read", "written"),
    [(6, "one two </s>", "five six </s>"), (4, "one </s>", "five six")],
)
def test_the_prompt_is_cut_before_the_completion(
    max_length: int, read: str, written: str, task: Seq2Seq, tiny_t5: Path
) -> None:
    tokenizer = task.load_processor(tiny_t5)
    example = task.read(ROW)
    [whole] = task.encode([example], tokenizer, [])
    assert whole.length == 8
    cut = task.truncate(example, whole, tokenizer, [], max_length)
    assert words(cut.columns["input_ids"], tokenizer) == read
    assert words(cut.columns[WRITTEN], tokenizer) == written
    assert cut.length == max_length


def test_a_decoder_is_no_model_for_it_and_an_encoder_decoder_none_for_generation(
    task: Seq2Seq, tiny_t5: Path, tiny_gpt2: Path
) -> None:
    from finetune_trainer.tasks.text_generation import TextGeneration

    with pytest.raises(ConfigurationError, match="no Seq2Seq model of the type 'gpt2'"):
        load_config(tiny_gpt2, task)
    with pytest.raises(ConfigurationError, match="t5 is an encoder-decoder model; set task to Seq2Seq"):
        load_config(tiny_t5, TextGeneration(Columns(), packing=False))


def test_what_ends_before_its_language_is_not_ended_again(task: Seq2Seq) -> None:
    from transformers import MBartTokenizer

    pieces = [
        ("<s>", 0.0),
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        *((f"▁{word}", -1.0) for word in ("five", "six")),
    ]
    tokenizer = MBartTokenizer(vocab=pieces, src_lang="en_XX", tgt_lang="de_DE")
    (features,) = task.encode([task.read(ROW)], tokenizer, [])
    assert words(features.columns[WRITTEN], tokenizer) == "▁five ▁six </s> de_DE"
