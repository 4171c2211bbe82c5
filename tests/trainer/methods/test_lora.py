"""LoRA adapts the attention and MLP layers of each family, and its head."""

from pathlib import Path
from typing import Any

import pytest

from finetune_api.dataset import Columns
from finetune_api.method import Method
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.methods import apply_method
from finetune_trainer.models.load import load_config, load_model
from finetune_trainer.models.suitability import check_method
from finetune_trainer.tasks.seq2seq import Seq2Seq
from finetune_trainer.tasks.text_classification import TextClassification
from finetune_trainer.tasks.text_generation import TextGeneration
from trainer import tiny_models


def adapted(folder: Path, task: Any, labels: list[str], **lora: Any) -> Any:
    tokenizer = task.load_processor(folder)
    loaded = load_model(folder, load_config(folder, task), task, labels, tokenizer)
    return apply_method(loaded, Method.model_validate({"lora": lora}), tokenizer, total_steps=1).model


def layers(model: Any) -> set[str]:
    """Last two parts of the names of the adapted layers."""
    return {".".join(n.split(".lora_A")[0].split(".")[-2:]) for n, _ in model.named_parameters() if "lora_A" in n}


def test_bert_by_default(tiny_bert: Path) -> None:
    model = adapted(tiny_bert, TextClassification(Columns()), ["a", "b"], rank=4)
    assert layers(model) == {"self.query", "self.key", "self.value", "output.dense", "intermediate.dense"}
    trained = {n for n, p in model.named_parameters() if p.requires_grad and "lora_" not in n}
    assert {n.split(".")[-1] for n in trained} == {"weight", "bias"}
    assert all("classifier.modules_to_save" in n for n in trained)
    assert model.peft_config["default"].lora_alpha == 8


@pytest.mark.parametrize("family", ["tiny_llama", "tiny_qwen"])
def test_llama_by_default(family: str, request: pytest.FixtureRequest) -> None:
    model = adapted(request.getfixturevalue(family), TextGeneration(Columns(), packing=False), [], rank=4, alpha=4)
    attention = {f"self_attn.{n}_proj" for n in "qkvo"}
    assert layers(model) == attention | {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}
    assert model.peft_config["default"].lora_alpha == 4


def test_deepseek_by_default(tiny_deepseek: Path) -> None:
    """Neither the router nor the experts, for which PEFT takes the names of MLP layers."""
    model = adapted(tiny_deepseek, TextGeneration(Columns(), packing=False), [], rank=4)
    attention = {f"self_attn.{n}" for n in ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")}
    assert layers(model) == attention


@pytest.mark.parametrize("lora", [{}, {"dora": True}, {"init": "PiSSA"}])
def test_layers_that_would_be_taken_for_experts_are_refused(lora: dict[str, Any], tiny_deepseek: Path) -> None:
    """DoRA and PiSSA would fail on them with a word about ParamWrapper."""
    named = {"targetModules": ["o_proj", "mlp.down_proj"], **lora}
    with pytest.raises(ConfigurationError, match=r"lora\.targetModules: of a mixture PEFT takes mlp\.down_proj for"):
        adapted(tiny_deepseek, TextGeneration(Columns(), packing=False), [], rank=4, **named)


def test_a_prefix_before_latent_attention_is_refused(tiny_deepseek: Path) -> None:
    config = load_config(tiny_deepseek, TextGeneration(Columns(), packing=False))
    with pytest.raises(ConfigurationError, match=r"prefixTuning: models of the type 'deepseek_v3' .*use promptTuning"):
        check_method(config, "TextGeneration", Method.model_validate({"prefixTuning": {}}))


def test_an_unknown_layer_is_refused_with_those_there_are(tiny_gpt2: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no layer 'q_proj'.*it has: .*c_attn, c_proj, c_fc"):
        adapted(tiny_gpt2, TextGeneration(Columns(), packing=False), [], targetModules=["c_attn", "q_proj"])


def test_named_layers_are_the_only_ones(tiny_gpt2: Path) -> None:
    model = adapted(tiny_gpt2, TextGeneration(Columns(), packing=False), [], targetModules=["attn.c_proj"])
    assert layers(model) == {"attn.c_proj"}


@pytest.mark.parametrize(("family", "name", "other"), [("gpt2", "wte", "lm_head"), ("t5", "embed_tokens", "shared")])
def test_layers_that_share_their_weights_are_refused(family: str, name: str, other: str, tmp_path: Path) -> None:
    """Trained beside the embedding alone, merged an adapter would change the output head, too."""
    folder = getattr(tiny_models, family)(tmp_path)
    task = Seq2Seq(Columns()) if family == "t5" else TextGeneration(Columns(), packing=False)
    with pytest.raises(
        ConfigurationError, match=rf"lora\.targetModules: the weights of '\S*{name}' are .*'\S*{other}'"
    ):
        adapted(folder, task, [], targetModules=[name])


def test_embeddings_of_their_own_are_adapted(tiny_llama: Path) -> None:
    model = adapted(tiny_llama, TextGeneration(Columns(), packing=False), [], targetModules=["embed_tokens"])
    assert [n.split(".")[-2] for n, p in model.named_parameters() if p.requires_grad] == [
        "lora_embedding_A",
        "lora_embedding_B",
    ]
