"""Whole models and adapters answer as the models they were made from."""

from pathlib import Path

import httpx
import pytest
import torch

from finetune_serving.conversation import NoChatTemplate
from finetune_serving.generation import Generator
from finetune_serving.settings import ModelSource
from serving.artifacts import LABELS, adapter_artifact, bert, generator_artifact, word_tokenizer
from serving.in_process import load_source, serving

TEXTS = ["my invoice is wrong", "love this product", "app crashes"]


@pytest.fixture(params=["encoder", "classifier", "other-classes"])
def adapter(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, torch.Tensor]:
    """An adapter on a base model, and what the two say together. The adapter brings its own classifier."""
    base = tmp_path / "base"
    model = bert(seed=1, labels=2 if request.param == "other-classes" else 3)
    (model.bert if request.param == "encoder" else model).save_pretrained(base)
    model = adapter_artifact(tmp_path / "adapter", base)
    inputs = word_tokenizer(32)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return tmp_path / "adapter", torch.softmax(model(**inputs).logits, dim=-1)


def test_an_adapter_is_merged_into_its_base(adapter: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    folder, _ = adapter
    loaded = load_source(ModelSource(uri=str(folder), scratch=tmp_path))
    assert type(loaded.model).__name__ == "BertForSequenceClassification"
    assert not [name for name, _ in loaded.model.named_modules() if "lora" in name]


async def test_an_adapter_answers_with_its_base(adapter: tuple[Path, torch.Tensor]) -> None:
    folder, expected = adapter
    tensor = {"name": "text", "shape": [3], "datatype": "BYTES", "data": TEXTS}
    async with serving(folder, name="tickets") as server:
        response = await server.client.post("/v2/models/tickets/infer", json={"inputs": [tensor]})
    label, scores = response.json()["outputs"]
    assert torch.tensor(scores["data"]).view(3, -1).allclose(expected, atol=1e-5)
    assert label["data"] == [LABELS[index] for index in expected.argmax(dim=-1)]


def test_the_adapter_makes_a_difference(adapter: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    folder, expected = adapter
    loaded = load_source(ModelSource(uri=str(folder), scratch=tmp_path))
    inputs = word_tokenizer(32)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        loaded.model.bert = bert(seed=1).bert
        plain = torch.softmax(loaded.model(**inputs).logits, dim=-1)
    assert not plain.allclose(expected, atol=1e-3)


def test_the_base_on_the_command_line_wins(adapter: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    folder, _ = adapter
    moved = (tmp_path / "base").rename(tmp_path / "moved")
    assert load_source(ModelSource(uri=str(folder), scratch=tmp_path, base_uri=f"file://{moved}")).max_length == 32


def test_without_a_chat_template_there_is_no_chat(tmp_path: Path) -> None:
    generator_artifact(tmp_path, chat_template=None)
    generator = Generator(load_source(ModelSource(uri=str(tmp_path), scratch=tmp_path)))
    with pytest.raises(NoChatTemplate):
        generator.encode_chat([{"role": "user", "content": "hi"}])


async def test_which_the_server_says(tmp_path: Path) -> None:
    generator_artifact(tmp_path, chat_template=None)
    body = {"model": "model", "messages": [{"role": "user", "content": "hi"}]}
    async with serving(tmp_path) as server:
        response: httpx.Response = await server.client.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "no_chat_template"
