"""What is particular to one method."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from finetune_api.dataset import Columns
from finetune_api.method import Method
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.methods import Adaptation, apply_method
from finetune_trainer.methods.virtual_tokens import check_encoder
from finetune_trainer.models.load import LoadedModel, load_config, load_model
from finetune_trainer.models.quantization import check_quantizable
from finetune_trainer.models.suitability import check_method
from finetune_trainer.tasks.image_classification import ImageClassification
from finetune_trainer.tasks.text_classification import TextClassification
from finetune_trainer.tasks.text_generation import TextGeneration
from trainer.in_process import run
from trainer.jobs import job, start
from trainer.methods.method_runs import ADALORA, CASES, STEPS, Case, job_of

GENERATION = TextGeneration(Columns(), packing=False)


def loaded(folder: Path) -> tuple[LoadedModel, Any]:
    tokenizer = GENERATION.load_processor(folder)
    return load_model(folder, load_config(folder, GENERATION), GENERATION, [], tokenizer), tokenizer


def adapt(folder: Path, method: dict[str, Any], total_steps: int = 20) -> Adaptation:
    model, tokenizer = loaded(folder)
    return apply_method(model, Method.model_validate(method), tokenizer, total_steps)


def logits(model: Any) -> torch.Tensor:
    ids = torch.arange(5, 25).view(2, 10)
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits


def test_rank_falls_to_what_was_asked_for_and_is_what_the_artifact_holds(
    tiny_gpt2: Path, questions: Path, tmp_path: Path
) -> None:
    run(job_of(CASES["adalora"], tmp_path, tiny_gpt2, questions, task="TextGeneration"), tmp_path)
    config = json.loads((tmp_path / "output" / "adapter_config.json").read_text())
    ranks = [sum(kept) for kept in config["rank_pattern"].values()]
    assert config["total_step"] == STEPS
    assert len(ranks) == 8
    assert sum(ranks) == 8 * 2, "the mean is targetRank"
    assert max(ranks) > 2, "and some layers have more than others"


def test_two_processes_allocate_rank_as_one_does(tiny_llama: Path, questions: Path, tmp_path: Path) -> None:
    """A model without dropout, so that the random numbers of each process do not matter."""
    case = Case({"adalora": ADALORA | {"dropout": 0}}, 5e-2)
    _, alone = run(job_of(case, tmp_path / "a", tiny_llama, questions, task="TextGeneration"), tmp_path / "a")
    together = start(job_of(case, tmp_path / "b", tiny_llama, questions, task="TextGeneration"), tmp_path / "b", 2)
    assert together.wait() == [0, 0]
    assert together.losses == pytest.approx(alone, rel=1e-5)
    ranks = [json.loads((tmp_path / name / "output" / "adapter_config.json").read_text()) for name in "ab"]
    assert ranks[0]["rank_pattern"] == ranks[1]["rank_pattern"]


def test_too_short_a_run_for_ranks_to_fall_is_refused(tiny_gpt2: Path) -> None:
    method = {"adalora": {"warmup": 8, "finalTuning": 4}}
    with pytest.raises(
        ConfigurationError, match=r"method.adalora: warmup \(8 steps\) and finalTuning \(4\) leave none"
    ):
        adapt(tiny_gpt2, method, total_steps=12)


@pytest.mark.parametrize("family", ["tiny_llama", "tiny_gpt2"])
def test_pissa_starts_as_the_base_model(family: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(family)
    assert logits(adapt(folder, CASES["pissa"].method).model).allclose(logits(loaded(folder)[0].model), atol=1e-5)


@pytest.mark.parametrize("family", ["tiny_llama", "tiny_gpt2"])
def test_pissa_goes_on_where_the_decomposition_gives_other_matrices(
    family: str, request: pytest.FixtureRequest
) -> None:
    """Singular vectors have no sign of their own, and on another processor other rounding."""
    here, there = (adapt(request.getfixturevalue(family), CASES["pissa"].method) for _ in range(2))
    torch.manual_seed(0)
    for name, parameter in there.model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            parameter.data += 0.01 * torch.randn_like(parameter)
    saved = {name: 0.9 * tensor for name, tensor in there.state().items()}
    there.restore(saved)  # as if it had begun with these
    weights = {name: p for name, p in there.model.named_parameters() if p.requires_grad}
    for name, parameter in here.model.named_parameters():
        if parameter.requires_grad:
            parameter.data.copy_(weights[name])
    assert not logits(here.model).allclose(logits(there.model), atol=1e-3)
    here.restore(there.state())
    assert logits(here.model).allclose(logits(there.model), atol=1e-5)


def test_the_adapter_of_pissa_is_plain_lora(tiny_gpt2: Path, questions: Path, tmp_path: Path) -> None:
    run(job_of(CASES["pissa"], tmp_path, tiny_gpt2, questions, task="TextGeneration"), tmp_path)
    config = json.loads((tmp_path / "output" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["init_lora_weights"]) == (8, 16, True)


def test_rslora_divides_by_the_square_root_of_the_rank(tiny_llama: Path) -> None:
    layer = adapt(tiny_llama, {"lora": {"rank": 16, "rslora": True}}).model.base_model.model.model.layers[0]
    assert layer.self_attn.q_proj.scaling["default"] == 4


def test_a_prompt_starts_as_the_text_it_is_given(tiny_llama: Path) -> None:
    model, tokenizer = loaded(tiny_llama)
    method = Method.model_validate({"promptTuning": {"virtualTokens": 5, "initText": "hello you"}})
    prompt = apply_method(model, method, tokenizer, 1).model.prompt_encoder["default"].embedding.weight
    ids = tokenizer("hello you", add_special_tokens=False)["input_ids"]
    assert prompt.equal(model.model.get_input_embeddings().weight[[ids[n % 2] for n in range(5)]])


def test_ia3_scales_keys_values_and_the_last_layer_of_each_mlp(tiny_bert: Path, tiny_llama: Path) -> None:
    task = TextClassification(Columns())
    tokenizer = task.load_processor(tiny_bert)
    bert = load_model(tiny_bert, load_config(tiny_bert, task), task, ["a", "b"], tokenizer)
    factors = apply_method(bert, Method.model_validate({"ia3": {}}), tokenizer, 1).model.named_parameters()
    shapes = {name.split("layer.0.")[1]: tuple(p.shape) for name, p in factors if "layer.0." in name and "ia3" in name}
    assert shapes == {
        "attention.self.key.ia3_l.default": (32, 1),
        "attention.self.value.ia3_l.default": (32, 1),
        "output.dense.ia3_l.default": (1, 48),
    }
    chosen = {"ia3": {"targetModules": ["o_proj", "up_proj"], "feedforwardModules": ["up_proj"]}}
    with pytest.raises(ConfigurationError, match="feedforwardModules"):
        adapt(tiny_llama, {"ia3": {"targetModules": ["o_proj"], "feedforwardModules": ["no_proj"]}})
    names = {n.split(".")[-3] for n, p in adapt(tiny_llama, chosen).model.named_parameters() if p.requires_grad}
    assert names == {"o_proj", "up_proj"}


@pytest.mark.parametrize(
    ("method", "model_type", "message"),
    [
        ("promptTuning", "llama", "decoders classify at the last token, which they cannot find behind virtual tokens"),
        ("pTuning", "gpt2", "use prefixTuning or lora, or an encoder such as BERT"),
        ("prefixTuning", "distilbert", "only on bert, roberta, xlm-roberta, camembert, electra and decoders"),
    ],
)
def test_what_the_model_cannot_take_is_refused(method: str, model_type: str, message: str) -> None:
    config, parsed = AutoConfig.for_model(model_type), Method.model_validate({method: {}})
    with pytest.raises(ConfigurationError, match=message):
        check_method(config, "TextClassification", parsed)
    check_method(AutoConfig.for_model("bert"), "TextClassification", parsed)


def test_a_prefix_for_each_head_is_refused_where_heads_share_keys() -> None:
    prefix = Method.model_validate({"prefixTuning": {}})
    with pytest.raises(ConfigurationError, match="the heads of this Falcon share keys and values"):
        check_method(AutoConfig.for_model("falcon"), "TextGeneration", prefix)
    check_method(AutoConfig.for_model("falcon", multi_query=False), "TextGeneration", prefix)


def test_experts_that_would_stay_unquantized_are_refused_before_the_weights_are_read() -> None:
    """bitsandbytes knows linear layers alone: https://github.com/axolotl-ai-cloud/axolotl quantize_moe_experts"""
    config = AutoConfig.for_model("mixtral", num_hidden_layers=2, hidden_size=64, intermediate_size=96, vocab_size=100)
    with pytest.raises(
        ConfigurationError,
        match=r"method\.qlora: \d\d% of the weights .*'mixtral' are experts or .*use lora",
    ):
        check_quantizable(config, GENERATION, trust_remote_code=False)
    convolutions = ImageClassification(Columns())
    with pytest.raises(ConfigurationError, match=r"qlora: 100% of the weights .*'resnet'"):
        check_quantizable(AutoConfig.for_model("resnet"), convolutions, trust_remote_code=False)
    for kind in ("llama", "gpt2"):
        dense = AutoConfig.for_model(kind, num_attention_heads=4, hidden_size=64, intermediate_size=96, vocab_size=100)
        check_quantizable(dense, GENERATION, trust_remote_code=False)


def test_an_lstm_in_float16_is_refused_where_there_is_none(tiny_gpt2: Path, questions: Path, tmp_path: Path) -> None:
    refused = job_of(CASES["p-lstm"], tmp_path, tiny_gpt2, questions, task="TextGeneration", precision="Float16")
    with pytest.raises(ConfigurationError, match=r"pTuning\.encoder: .* no LSTM in Float16; set encoder to MLP"):
        run(refused, tmp_path)
    check_encoder(refused.method.p_tuning, "Float16", torch.device("cuda"))
    check_encoder(refused.method.p_tuning, "BFloat16", torch.device("cpu"))


def test_virtual_tokens_take_positions_from_the_text(tiny_gpt2: Path, questions: Path, tmp_path: Path) -> None:
    dataset = {"maxLength": 128, "overLength": "Truncate"}
    method = {"prefixTuning": {"virtualTokens": 120}}
    config = job(tmp_path, tiny_gpt2, questions, task="TextGeneration", method=method, dataset=dataset, maxSteps=1)
    run(config, tmp_path)
    assert json.loads((tmp_path / "output" / "finetune.json").read_text())["maxLength"] == 8
    full = job(tmp_path, tiny_gpt2, questions, task="TextGeneration", method={"prefixTuning": {"virtualTokens": 127}})
    with pytest.raises(ConfigurationError, match=r"virtualTokens \(127\) leaves no room for a text in the model's 128"):
        run(full, tmp_path)
