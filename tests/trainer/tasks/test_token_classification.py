"""A tag for each word, whatever the tokenizer makes of it."""

from pathlib import Path
from typing import Any

import pytest

from finetune_api.dataset import Columns
from finetune_trainer.data.encoded import LABEL, NO_LABEL
from finetune_trainer.data.parts import Parts
from finetune_trainer.data.reading import Row, Where
from finetune_trainer.errors import DataError
from finetune_trainer.tasks.token_classification import TokenClassification

HERE = Where("d.jsonl", 1)
TAGGED = {"tokens": ["hello", "Ada", "one"], "tags": ["O", "B-PER", "I-PER"]}
MARKED = {"text": "hello Ada one", "entities": [{"start": 6, "end": 13, "label": "PER"}]}


@pytest.fixture(scope="module")
def letters(tiny_bert: Path) -> Any:
    """A tokenizer that cuts each word into letters, as byte-pair encodings cut rare ones."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyzA"]
    vocabulary = {name: index for index, name in enumerate(names)}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")


@pytest.mark.parametrize("values", [TAGGED, MARKED], ids=["tokens", "text"])
def test_the_first_token_of_a_word_is_learnt(values: dict[str, Any], letters: Any) -> None:
    task = TokenClassification(Columns())
    example = task.read(Row(values, HERE))
    labels = task.labels(Parts([example], [], []))
    assert labels == ["O", "B-PER", "I-PER"]
    [features] = task.encode([example], letters, labels)
    tags = features.columns[LABEL]
    learnt = {place: labels[tag] for place, tag in enumerate(tags) if tag != NO_LABEL}
    assert learnt == {1: "O", 6: "B-PER", 9: "I-PER"}
    assert (features.length, features.targets) == (13, 3)


def test_truncation_keeps_the_closing_token_and_the_tags_that_remain(letters: Any) -> None:
    task = TokenClassification(Columns())
    example = task.read(Row(TAGGED, HERE))
    [whole] = task.encode([example], letters, ["O", "B-PER", "I-PER"])
    cut = task.truncate(example, whole, letters, ["O", "B-PER", "I-PER"], 8)
    assert cut.columns["input_ids"][-1] == 3
    assert (cut.length, cut.targets) == (8, 2)


def test_an_entity_type_that_only_held_out_data_has_is_refused() -> None:
    task = TokenClassification(Columns())
    train = task.read(Row(TAGGED, HERE))
    test = task.read(Row({"tokens": ["Rome"], "tags": ["B-LOC"]}, Where("t.jsonl", 4)))
    with pytest.raises(DataError, match=r"t\.jsonl line 4: the entity type 'LOC' is in no training example.*PER"):
        task.labels(Parts([train], [], [test]))
    with pytest.raises(DataError, match="no example has an entity"):
        task.labels(Parts([task.read(Row({"tokens": ["a"], "tags": ["O"]}, HERE))], [], []))
