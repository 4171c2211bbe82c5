"""A model that cannot do the job is refused with what to do instead."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, RobertaConfig

from finetune_api.dataset import Columns
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.models.dropout import keep_every_layer
from finetune_trainer.models.load import load_config, load_model
from finetune_trainer.models.suitability import check_suitable, longest_input
from finetune_trainer.tasks.text_classification import TextClassification
from finetune_trainer.tasks.text_generation import TextGeneration

CLASSIFY = TextClassification(Columns())
GENERATE = TextGeneration(Columns(), packing=False)


@pytest.fixture
def copy(tmp_path: Path):
    """copy(folder, without=…): a model folder that may be broken."""

    def make(folder: Path, without: str = "") -> Path:
        target = tmp_path / "model"
        shutil.copytree(folder, target)
        for file in target.glob(without) if without else ():
            file.unlink()
        return target

    return make


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"num_key_value_heads": 2}, r"num_key_value_heads 2 and num_attention_heads 4, .*; set both to the same"),
        ({"topk_method": "noaux_tc"}, r"topk_method 'noaux_tc', .* by greedy or group_limited_greedy; set model_type"),
    ],
)
def test_what_would_fail_in_the_first_step_of_deepseek_v2_is_refused(changes: dict, expected: str) -> None:
    usual = {"num_attention_heads": 4, "num_key_value_heads": 4}
    check_suitable(AutoConfig.for_model("deepseek_v2", **usual), GENERATE, trust_remote_code=False)
    with pytest.raises(ConfigurationError, match=expected):
        check_suitable(AutoConfig.for_model("deepseek_v2", **{**usual, **changes}), GENERATE, trust_remote_code=False)


def test_an_encoder_cannot_generate(tiny_bert: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"bert is an encoder.*Llama, Qwen.*or set task to TextClassif"):
        load_config(tiny_bert, GENERATE)


def test_a_folder_without_config_is_no_model(tiny_bert: Path, copy) -> None:
    folder = copy(tiny_bert, without="config.json")
    with pytest.raises(ConfigurationError, match=r"no config\.json"):
        load_config(folder, CLASSIFY)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="merge it into its base"):
        load_config(folder, CLASSIFY)


def test_missing_weights_are_noticed_before_training(tiny_bert: Path, copy) -> None:
    with pytest.raises(ConfigurationError, match="has no weights"):
        load_config(copy(tiny_bert, without="*.safetensors"), CLASSIFY)


def test_a_missing_tokenizer_is_noticed(tiny_bert: Path, copy) -> None:
    with pytest.raises(ConfigurationError, match=r"has no tokenizer \(one of tokenizer\.json"):
        CLASSIFY.load_processor(copy(tiny_bert, without="tokenizer*"))


def test_damaged_weights_are_a_clear_error(tiny_bert: Path, copy) -> None:
    folder = copy(tiny_bert)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ConfigurationError, match=r"the weights in .* cannot be loaded"):
        load(folder, CLASSIFY, ["a", "b"])


def test_a_model_with_parts_missing_is_refused_not_filled_with_random_numbers(tiny_llama: Path, copy) -> None:
    from safetensors.torch import load_file, save_file

    folder = copy(tiny_llama)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigurationError, match=r"lack 1 weights of the model \(model\.layers\.1\.mlp\.up_proj"):
        load(folder, GENERATE, [])


def test_a_tokenizer_of_another_model_is_noticed(tiny_llama: Path, copy) -> None:
    folder = copy(tiny_llama)
    tokenizer = GENERATE.load_processor(folder)
    tokenizer.add_tokens(["new"])
    with pytest.raises(ConfigurationError, match="do not belong together"):
        load_model(folder, load_config(folder, GENERATE), GENERATE, [], tokenizer)


def test_an_unknown_type_names_itself(tiny_bert: Path, copy) -> None:
    folder = copy(tiny_bert)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "nosuch"}))
    with pytest.raises(ConfigurationError, match="nosuch"):
        load_config(folder, CLASSIFY)


def test_an_image_model_cannot_classify_text(tiny_bert: Path, copy) -> None:
    folder = copy(tiny_bert)
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(ConfigurationError, match="no TextClassification model of the type 'vit'"):
        load_config(folder, CLASSIFY)


def test_bfloat16_files_are_trained_in_float32(tiny_llama: Path, copy) -> None:
    from transformers import LlamaForCausalLM

    folder = copy(tiny_llama)
    LlamaForCausalLM.from_pretrained(tiny_llama, dtype=torch.bfloat16).save_pretrained(folder)
    model = load(folder, GENERATE, [])
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("family", ["tiny_bert", "tiny_gpt2", "tiny_llama"])
def test_every_family_gets_a_head_for_the_labels(family: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(family)
    model = load(folder, CLASSIFY, ["a", "b", "c"])
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, model.config.pad_token_id, model.config.pad_token_id]])
    mask = (ids != model.config.pad_token_id).long()
    assert model(input_ids=ids, attention_mask=mask).logits.shape == (2, 3)


def test_positions_limit_the_length(tiny_bert: Path, tiny_gpt2: Path) -> None:
    assert longest_input(load_config(tiny_bert, CLASSIFY)) == 64
    assert longest_input(load_config(tiny_gpt2, GENERATE)) == 128


def test_the_positions_of_roberta_start_behind_its_padding() -> None:
    assert longest_input(RobertaConfig(max_position_embeddings=514, pad_token_id=1)) == 512


def load(folder: Path, task, labels: list[str]):
    tokenizer = task.load_processor(folder)
    return load_model(folder, load_config(folder, task), task, labels, tokenizer).model


@pytest.mark.parametrize("kind", ["m2m_100", "wav2vec2", "detr"])
def test_no_process_leaves_out_a_layer_that_others_wait_for(kind: str) -> None:
    config = AutoConfig.for_model(kind)
    rates = [name for name in vars(config) if name.endswith("layerdrop")]
    assert rates
    keep_every_layer(config)
    assert not any(getattr(config, name) for name in rates)


def test_what_is_trained_keeps_every_layer_whatever_its_config_says(tmp_path: Path) -> None:
    from finetune_trainer.models.pretrained import open_pretrained
    from finetune_trainer.tasks.selection import task_of
    from trainer import tiny_models
    from trainer.jobs import job

    folder = tiny_models.bart(tmp_path / "bart")
    published = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(published | {"encoder_layerdrop": 0.1}))
    config = job(tmp_path, folder, tmp_path / "train.jsonl", task="Seq2Seq")
    assert open_pretrained(folder, config, task_of(config), torch.device("cpu")).config.encoder_layerdrop == 0
