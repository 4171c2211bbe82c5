"""Several heads on one encoder: the model, its files, and a loss in which no subtask outvotes another."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    BertForMaskedLM,
    DebertaV2Config,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertModel,
    ModernBertConfig,
    ModernBertModel,
    RobertaConfig,
    RobertaForMaskedLM,
)

from finetune_api.dataset import Columns
from finetune_api.trainer_config import TrainerConfig
from finetune_serving.model_runtime import PREDICTORS
from finetune_serving.multi_task_model import HEADS, MultiTaskModel
from finetune_serving.settings import ModelSource
from finetune_trainer.data.encoded import Encoded, encode
from finetune_trainer.data.joined import Joined
from finetune_trainer.data.parts import Parts
from finetune_trainer.data.row import Row, Where
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.models.load import load_config, load_model
from finetune_trainer.tasks.multi_task import MultiTask
from finetune_trainer.tasks.question_answering import QuestionAnswering
from finetune_trainer.tasks.text_classification import TextClassification
from finetune_trainer.tasks.token_classification import TokenClassification
from serving.in_process import load_source
from trainer import tiny_models
from trainer.in_process import run
from trainer.tasks.task_cases import CASES
from trainer.tasks.test_every_task import job_of

COLUMNS = Columns()
SUBTASKS = {
    "train": TextClassification(COLUMNS),  # a name that modules have for something else
    "entities": TokenClassification(COLUMNS),
    "answers": QuestionAnswering(COLUMNS),
}
TASK = MultiTask(SUBTASKS)
ROWS: dict[str, list[dict[str, Any]]] = {
    "train": [{"text": "where is my parcel", "label": "delivery"}, {"text": "refund", "label": "billing"}],
    "entities": [
        {"tokens": ["my", "parcel", "never", "came"], "tags": ["O", "B-THING", "O", "O"]},
        {"tokens": ["parcel", "never", "came", "to", "you"], "tags": ["B-THING", "O", "O", "O", "O"]},
    ],
    "answers": [
        {
            "question": "what is broken",
            "context": "the screen is broken thanks",
            "answers": {"text": ["screen"], "answer_start": [4]},
        }
    ],
}
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_models.encoder_tokenizer()


@pytest.fixture(scope="module")
def data(tokenizer: Any) -> tuple[Joined, list[str]]:
    parts: dict[str, Encoded] = {}
    labels: list[str] = []
    for name, task in SUBTASKS.items():
        examples = [task.read(Row(row, Where(f"{name}.jsonl", n))) for n, row in enumerate(ROWS[name], 1)]
        own = task.labels(Parts(examples, [], []))  # type: ignore[arg-type]
        labels += [f"{name}/{label}" for label in own]
        parts[name] = encode(task.encode(examples, tokenizer, own))
    return Joined.of(parts), labels


def encoders(folder: Path, kind: str) -> Path:
    """Pre-trained models as they are published: some with another head, each with names of its own."""
    torch.manual_seed(3)
    tokens = tiny_models.encoder_tokenizer()
    size = {"vocab_size": len(tokens), "pad_token_id": tokens.pad_token_id}
    made: dict[str, Any] = {
        "bert": lambda: BertForMaskedLM(BertForMaskedLM.config_class(**size, **SMALL)),
        "roberta": lambda: RobertaForMaskedLM(RobertaConfig(**size, **SMALL, max_position_embeddings=64)),
        "distilbert": lambda: DistilBertModel(DistilBertConfig(**size, dim=32, n_layers=2, n_heads=4, hidden_dim=48)),
        "deberta": lambda: DebertaV2Model(DebertaV2Config(**size, **SMALL)),
        "modernbert": lambda: ModernBertModel(ModernBertConfig(**size, **SMALL)),
    }
    return tiny_models.save(folder, made[kind](), tokens)


def loaded(folder: Path, tokenizer: Any, labels: list[str]) -> Any:
    return load_model(folder, load_config(folder, TASK), TASK, labels, tokenizer)


def everything(data: Joined, tokenizer: Any) -> Any:
    return TASK.collator(tokenizer)(data, [[index] for index in range(len(data))])


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "deberta", "modernbert"])
def test_an_encoder_of_any_family_keeps_its_weights_and_gets_heads(
    kind: str, data: tuple[Joined, list[str]], tokenizer: Any, tmp_path: Path
) -> None:
    joined, labels = data
    folder = encoders(tmp_path / "base", kind)
    found = loaded(folder, tokenizer, labels)
    assert found.new_modules == [HEADS]
    batch = everything(joined, tokenizer)
    loss = TASK.loss_sum(found.model, batch, 0.0)
    loss.backward()
    idle = [name for name, parameter in found.model.named_parameters() if parameter.grad is None]
    assert not idle, "a rank would wait for their gradients for ever"
    model = found.model.eval()
    model.save_pretrained(tmp_path / "saved")
    again = MultiTaskModel.from_pretrained(str(tmp_path / "saved"))
    assert torch.equal(TASK.outputs(again.eval(), batch), TASK.outputs(model, batch))
    ids = batch.inputs["input_ids"]
    encoder = AutoModel.from_pretrained(tmp_path / "saved").eval()
    before = AutoModel.from_pretrained(folder).eval()
    for other in (encoder, before):
        assert torch.equal(other(ids).last_hidden_state, getattr(model, model.base_model_prefix)(ids).last_hidden_state)


@pytest.fixture(scope="module")
def model(tiny_bert: Path, tokenizer: Any, data: tuple[Joined, list[str]]) -> Any:
    torch.manual_seed(0)
    return loaded(tiny_bert, tokenizer, data[1]).model.eval()


def test_together_each_subtask_is_answered_as_alone(model: Any, data: tuple[Joined, list[str]], tokenizer: Any) -> None:
    """Whatever rows of others share the batch, and however wide they make it."""
    joined, _ = data
    mixed = TASK.predictions(model, everything(joined, tokenizer))
    for name, task in SUBTASKS.items():
        part = joined.parts[name]
        alone = task.collator(tokenizer)(part, [[index] for index in range(len(part))])
        expected = task.predictions(model.subtask(name), alone)
        found, expected = (x if isinstance(x, tuple) else (x,) for x in (mixed[name], expected))
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, expected, strict=True))


def test_the_loss_is_the_same_however_the_batch_is_cut(
    model: Any, data: tuple[Joined, list[str]], tokenizer: Any
) -> None:
    joined, _ = data
    collate = TASK.collator(tokenizer)
    whole = TASK.loss_sum(model, everything(joined, tokenizer), 0.1)
    rows = [TASK.loss_sum(model, collate(joined, [[index]]), 0.1) for index in range(len(joined))]
    assert torch.allclose(torch.stack(rows).sum(), whole, rtol=1e-5)


def test_the_words_of_a_text_weigh_together_what_one_class_weighs(
    model: Any, data: tuple[Joined, list[str]], tokenizer: Any
) -> None:
    joined, _ = data
    words = joined.parts["entities"]
    batch = SUBTASKS["entities"].collator(tokenizer)(words, [[0], [1]])
    alone = SUBTASKS["entities"].loss_sum(model.subtask("entities"), batch, 0.0)
    mixed = TASK.loss_sum(model, TASK.collator(tokenizer)(joined, [[2], [3]]), 0.0)
    assert torch.allclose(mixed, alone / np.mean(words.targets), rtol=1e-5)


def test_a_head_without_rows_still_has_gradients_of_zero(
    tiny_bert: Path, data: tuple[Joined, list[str]], tokenizer: Any
) -> None:
    joined, labels = data
    model = loaded(tiny_bert, tokenizer, labels).model
    TASK.loss_sum(model, TASK.collator(tokenizer)(joined, [[0]]), 0.0).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    assert not gradients[f"{HEADS}.answers_head.output.weight"].any()  # type: ignore[union-attr]
    assert gradients[f"{HEADS}.train_head.output.weight"].any()  # type: ignore[union-attr]


def test_an_unknown_subtask_is_no_head(model: Any) -> None:
    with pytest.raises(KeyError, match="intents"):
        model.subtask("intents")


def test_a_decoder_is_refused_before_any_data_is_read(tiny_llama: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"type 'llama' are no encoders that the heads .* use BERT, RoBERTa"):
        load_config(tiny_llama, TASK)


def test_a_model_without_heads_is_no_multi_task_model(tiny_bert: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.json has no task_heads"):
        MultiTaskModel.from_pretrained(str(tiny_bert))


def test_what_is_made_of_it_after_training_keeps_every_head(tmp_path: Path) -> None:
    """Some batches have no row for some quantized head."""
    case = CASES["multi-task"]
    model, rows = case.model(tmp_path / "model"), case.data(tmp_path / "data")
    config = job_of(case, tmp_path, model, rows, method={"lora": {"rank": 4}}, maxSteps=8)
    steps = [{"merge": {}}, {"prune": {"sparsity": 0.1}}, {"quantize": {"scheme": "Int8Dynamic"}}]
    result, _ = run(TrainerConfig.model_validate({**config.wire(), "postprocess": steps}), tmp_path)
    merged, pruned, quantized = result.postprocess
    assert merged.metrics == pytest.approx(result.metrics, abs=1e-4)
    assert quantized.metrics["loss"] == pytest.approx(pruned.metrics["loss"], rel=0.1)
    loaded = load_source(ModelSource(str(tmp_path / "output-quantize"), scratch=tmp_path))
    for name, one in case.subtasks.items():
        predictor = PREDICTORS[one.task](loaded.of_subtask(name))
        asked = [dict(zip(one.inputs, values, strict=True)) for values in zip(*one.inputs.values(), strict=True)]
        assert len(predictor.predict(predictor.encode(asked))) == 2
    card = (tmp_path / "output-merge" / "README.md").read_text()
    assert '    intent = model.subtask("intent")' in card
    assert "| entities train |" in card
