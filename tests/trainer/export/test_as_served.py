"""An adapter answers in the weights of its base model as it did beside them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification, LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, RobertaConfig, RobertaModel

from finetune_api.dataset import Columns
from finetune_api.trainer_config import TrainerConfig
from finetune_serving.artifact import open_artifact
from finetune_serving.loading import load
from finetune_serving.settings import ModelSource
from finetune_trainer.data.encoded import encode
from finetune_trainer.errors import outcome_of
from finetune_trainer.export.verification import ExportError, verify_export
from finetune_trainer.models.frozen_precision import IN_FLOAT32
from finetune_trainer.tasks.text_generation import TextGeneration, learnt_tokens
from trainer import tiny_models
from trainer.in_process import run
from trainer.jobs import job, write_jsonl

GENERATION = TextGeneration(Columns(), packing=False)


def head_of_two_layers(folder: Path) -> Path:
    torch.manual_seed(1)
    tokens = tiny_models.encoder_tokenizer()
    config = RobertaConfig(vocab_size=len(tokens), max_position_embeddings=70, **tiny_models.SIZES)
    config.pad_token_id = tokens.pad_token_id
    return tiny_models.save(folder, RobertaModel(config), tokens)


def head_on_a_new_pooler(folder: Path) -> Path:
    """As all-MiniLM-L6-v2, whose pooler is trained anew with the head."""
    pooling = tiny_models.bert(folder) / "1_Pooling" / "config.json"
    pooling.parent.mkdir()
    pooling.write_text('{"pooling_mode_cls_token": false}')
    return folder


@pytest.mark.parametrize("make", [head_of_two_layers, head_on_a_new_pooler])
def test_ia3_under_a_head_of_several_layers_is_served_and_merged(
    make: Callable[[Path], Path], tickets: Path, tmp_path: Path
) -> None:
    config = job(tmp_path, make(tmp_path / "model"), tickets, method={"ia3": {}}, maxSteps=3, learningRate=5e-2)
    run(TrainerConfig.model_validate({**config.wire(), "postprocess": [{"merge": {}}]}), tmp_path)
    output = tmp_path / "output"
    texts = AutoTokenizer.from_pretrained(output)(["where is my parcel", "refund"], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = AutoPeftModelForSequenceClassification.from_pretrained(output, num_labels=3).eval()(**texts).logits
        for artifact in (output, tmp_path / "output-merge"):
            assert served(artifact, tmp_path)(**texts).logits.allclose(expected, atol=1e-5)


def served(artifact: Path, scratch: Path) -> Any:
    source = ModelSource(uri=str(artifact), scratch=scratch)
    return load(source, open_artifact(source)).model


def test_an_adapter_that_merges_into_another_model_is_not_published(tiny_gpt2: Path, tmp_path: Path) -> None:
    """GPT-2's embedding is its head, too."""
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["wte"], init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_gpt2), config).eval()
    model.save_pretrained(tmp_path)
    encoded = encode([learnt_tokens([5, 6, 7, 8], [True] * 4)])
    batch = GENERATION.collator(GENERATION.load_processor(tiny_gpt2))(encoded, [[0]])
    with pytest.raises(ExportError, match="the exported adapter, as it is served, answers otherwise"):
        verify_export(tmp_path, tiny_gpt2, model, GENERATION, batch, IN_FLOAT32)


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (RuntimeError("size mismatch for score.weight"), "ExportError"),
        (ValueError("no such quantization"), "ExportError"),
        (torch.OutOfMemoryError("CUDA out of memory"), "OutOfMemory"),
        (OSError(5, "Input/output error"), "Crash"),
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), "Crash"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_artifact_that_cannot_be_read_back_says_so_unless_the_machine_is_to_blame(
    trouble: Exception, told: str, tiny_gpt2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_gpt2).eval()
    batch = GENERATION.collator(GENERATION.load_processor(tiny_gpt2))(
        encode([learnt_tokens([5, 6], [True] * 2)]), [[0]]
    )

    def failing(*_: Any, **__: Any) -> None:
        raise trouble

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", failing)
    with pytest.raises(Exception, match=re.escape(str(trouble).splitlines()[0])) as caught:
        verify_export(tmp_path, None, model, GENERATION, batch, IN_FLOAT32)
    assert outcome_of(caught.value) == told


def test_it_is_compared_on_held_out_rows_of_which_something_is_left(tiny_llama: Path, tmp_path: Path) -> None:
    """Those whose prompt alone was cut are as short as others, and have no answer to compare."""
    short = write_jsonl(tmp_path / "train.jsonl", [{"prompt": "hello", "completion": "thanks a"}] * 8)
    cut = [{"prompt": "one " * 30, "completion": "thanks"}] * 4
    rows = [*cut, *[{"prompt": "one " * 10, "completion": "two " * 20}] * 5]
    test = {"source": f"file://{write_jsonl(tmp_path / 'test.jsonl', rows)}"}
    dataset = {"maxLength": 16, "overLength": "Truncate", "test": test}
    run(job(tmp_path, tiny_llama, short, task="TextGeneration", dataset=dataset, maxSteps=1), tmp_path)
    assert served(tmp_path / "output", tmp_path)
