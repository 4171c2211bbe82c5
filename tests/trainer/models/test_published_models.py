"""What published models have that no tiny model has by itself: other padding, heads of other classes and names."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_api.dataset import Columns
from finetune_serving.artifact import open_artifact
from finetune_serving.classification import TextClassifier
from finetune_serving.loading import load
from finetune_serving.settings import ModelSource
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.models.load import LoadedModel, load_config, load_model
from finetune_trainer.tasks.image_classification import ImageClassification
from finetune_trainer.tasks.question_answering import QuestionAnswering
from finetune_trainer.tasks.text_classification import TextClassification
from finetune_trainer.tasks.text_generation import TextGeneration
from trainer import tiny_models
from trainer.in_process import run
from trainer.jobs import job

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def loaded(folder: Path, task: Any, labels: list[str]) -> LoadedModel:
    return load_model(folder, load_config(folder, task), task, labels, task.load_processor(folder))


@pytest.fixture
def with_other_padding(tiny_llama: Path, tmp_path: Path) -> Path:
    """As OpenLLaMA: config.json says that token 0 pads, which the tokenizer knows nothing of."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_llama, folder)
    published = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**published, "pad_token_id": 0}))
    return folder


def test_a_decoder_is_trained_at_the_last_token_that_the_tokenizer_does_not_pad_with(with_other_padding: Path) -> None:
    model = loaded(with_other_padding, TextClassification(Columns()), ["a", "b"]).model.eval()
    pad = model.config.eos_token_id  # the tokenizer has no other
    short, padded = torch.tensor([[5, 6, 7]]), torch.tensor([[5, 6, 7, pad, pad]])
    with torch.no_grad():
        found = model(input_ids=padded, attention_mask=torch.tensor([[1, 1, 1, 0, 0]])).logits
        torch.testing.assert_close(found, model(input_ids=short).logits)


def test_and_served_beside_its_adapter_it_says_the_same_of_a_text_beside_a_longer_one(
    with_other_padding: Path, tickets: Path, tmp_path: Path
) -> None:
    run(job(tmp_path, with_other_padding, tickets, maxSteps=1), tmp_path)
    source = ModelSource(uri=str(tmp_path / "output"), scratch=tmp_path / "served")
    classifier = TextClassifier(load(source, open_artifact(source)))
    short, long = {"text": "app crashes"}, {"text": "my card was charged twice please refund it"}
    (alone,) = classifier.predict(classifier.encode([short]))
    together, _ = classifier.predict(classifier.encode([short, long]))
    assert together.scores == pytest.approx(alone.scores, abs=1e-6)


def test_the_end_of_a_turn_is_learnt_although_it_pads(tiny_llama: Path) -> None:
    model = loaded(tiny_llama, TextGeneration(Columns(), packing=False), []).model
    end = model.config.pad_token_id
    assert end == model.config.eos_token_id
    model(input_ids=torch.tensor([[5, end, 6, 7]])).logits[0, -1].sum().backward()
    assert model.get_input_embeddings().weight.grad[end].abs().sum() > 0


def test_a_head_of_other_classes_is_trained_with_an_adapter(tmp_path: Path) -> None:
    folder, task = tiny_models.vit(tmp_path), ImageClassification(Columns())
    published = json.loads((folder / "config.json").read_text())
    named = {"id2label": {"0": "dog", "1": "cat"}, "label2id": {"dog": 0, "cat": 1}}
    (folder / "config.json").write_text(json.dumps({**published, **named}))
    assert loaded(folder, task, ["dog", "cat"]).new_modules == []
    assert loaded(folder, task, ["cat", "dog"]).new_modules == ["classifier"]


def modern_bert() -> Any:
    from transformers import ModernBertConfig, ModernBertModel

    ends = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    return ModernBertModel(ModernBertConfig(vocab_size=256, **SIZES, **ends))


def xlnet() -> Any:
    from transformers import XLNetConfig, XLNetModel

    return XLNetModel(XLNetConfig(vocab_size=256, d_model=16, n_layer=1, n_head=2, d_inner=16))


def encoder(folder: Path, made: Callable[[], Any]) -> Path:
    return tiny_models.save(folder, made(), tiny_models.encoder_tokenizer())


def test_modern_bert_gets_the_head_for_questions_that_it_has_in_transformers(tmp_path: Path) -> None:
    assert loaded(encoder(tmp_path, modern_bert), QuestionAnswering(Columns()), []).new_modules == [
        "classifier",
        "head",
    ]


def test_a_head_that_cannot_be_trained_is_not_taken_for_missing_files(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"has a head \(logits_proj\.bias.* of a kind .*; use a model of anoth"
    ):
        loaded(encoder(tmp_path, xlnet), TextClassification(Columns()), ["a", "b"])
