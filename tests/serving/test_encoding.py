"""What a server gives a model: as in training."""

import threading
from pathlib import Path
from typing import Any

import pytest
from peft import PromptTuningConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from finetune_api.artifact import ArtifactDescription
from finetune_serving.classification import TextClassifier
from finetune_serving.generation import Generator, Sampling
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


def test_what_is_cut_off_by_its_length_does_not_look_ended(tmp_path: Path) -> None:
    """BART's published settings put the end token in the last place that there is."""
    folder = tiny_models.bart(tmp_path)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    model.final_logits_bias[0, 9] = 1e4
    assert model.generation_config.forced_eos_token_id is not None
    tokenizer = AutoTokenizer.from_pretrained(folder)
    generator = Generator(LoadedModel(model, tokenizer, ArtifactDescription(task="Seq2Seq"), 64))
    written: list[int] = []
    generator.generate([5, 6], Sampling(max_tokens=4, temperature=0), written.append, threading.Event())
    assert written == [9] * 4


def test_learnt_tokens_before_what_is_read_do_not_keep_it_from_writing(tmp_path: Path) -> None:
    """PEFT copies what it is given, which goes wrong where a stream and its lock are among it."""
    folder = tiny_models.bart(tmp_path)
    config = PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=2)
    model = get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(folder), config).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    generator = Generator(LoadedModel(model, tokenizer, ArtifactDescription(task="Seq2Seq"), 64))
    written: list[int] = []
    generator.generate([5, 6], Sampling(max_tokens=4, temperature=0), written.append, threading.Event())
    assert written
