"""What a server gives a model: as in training."""

from typing import Any

import pytest

from finetune_api.artifact import ArtifactDescription
from finetune_serving.classification import TextClassifier
from finetune_serving.loading import LoadedModel
from finetune_serving.question_answering import without_blanks
from finetune_serving.token_classification import EntityFinder
from trainer import tiny_models

DESCRIPTION = ArtifactDescription(task="TextClassification", format="Full", labels=["O", "B-X"])


def test_types_of_tokens_are_not_given_to_what_was_trained_without() -> None:
    tokenizer = tiny_models.encoder_tokenizer()
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    assert "token_type_ids" in tokenizer("where is it")
    loaded: Any = LoadedModel(None, tokenizer, DESCRIPTION, 64)
    (whole,) = TextClassifier(loaded).encode([{"text": "where is it"}])
    (tagged,) = EntityFinder(loaded).encode([{"text": "where is it"}])
    assert set(whole) == set(tagged.parts[0].tokens) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize(("start", "end", "found"), [(2, 6, "two"), (3, 6, "two"), (2, 7, "two"), (6, 7, " ")], ids=str)
def test_an_answer_has_no_blanks_around_it(start: int, end: int, found: str) -> None:
    text = "is two parcels"
    first, last = without_blanks(text, start, end)
    assert text[first:last] == found
