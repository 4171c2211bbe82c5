"""What makes a step cheaper leaves its loss and its gradients as they were."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from finetune_api.dataset import Columns
from finetune_trainer.data.batches import Batch
from finetune_trainer.data.encoded import Features, encode
from finetune_trainer.models.fused_head import fused_head
from finetune_trainer.models.segment_attention import NAME, SEGMENT_ENDS, attend_by_segment, segment_attention
from finetune_trainer.ranks import Ranks
from finetune_trainer.tasks.seq2seq import WRITTEN, Seq2Seq
from finetune_trainer.tasks.text_generation import TextGeneration, learnt_tokens
from trainer import tiny_models

VOCABULARY = 64
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "pad_token_id": 0,
}
PADDING = SimpleNamespace(pad_token_id=0)
RANDOM = np.random.default_rng(0)
TEXTS = [RANDOM.integers(1, VOCABULARY, length).tolist() for length in (3, 17, 5, 9, 2, 11)]
ENCODED = encode([learnt_tokens(text, [place > 1 for place in range(len(text))]) for text in TEXTS])
PACKED = TextGeneration(Columns(), packing=True)
PADDED = TextGeneration(Columns(), packing=False)


def batch(task: Any = PADDED) -> Batch:
    return task.collator(PADDING)(ENCODED, task.rows(ENCODED, 24))


def deepseek() -> Any:
    sizes = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8}
    experts = {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "moe_intermediate_size": 8,
    }
    return DeepseekV3ForCausalLM(DeepseekV3Config(**SIZES, **sizes, **experts, first_k_dense_replace=1))


def gemma() -> Any:
    config = Gemma2Config(**SIZES, head_dim=8, num_key_value_heads=2, final_logit_softcapping=0.5)
    return Gemma2ForCausalLM(config)


def mistral() -> Any:
    config = MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=4, attn_implementation="sdpa")
    return MistralForCausalLM(config)


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def same(model: Any, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients(model, ours), gradients(model, theirs), rtol=1e-4, atol=1e-5)


@pytest.fixture(params=["llama", "gpt2", "qwen"])
def decoder(request: pytest.FixtureRequest) -> Any:
    folder: Path = request.getfixturevalue(f"tiny_{request.param}")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("task", [PADDED, PACKED], ids=["padded", "packed"])
def test_a_fused_head_gives_the_loss_of_whole_logits(decoder: Any, task: TextGeneration) -> None:
    data = batch(task)
    head = fused_head(decoder, task, lambda: data, Ranks())
    assert head is not None
    same(decoder, head.loss_sum(decoder, data), task.loss_sum(decoder, data, 0.0))


@pytest.mark.parametrize(
    "adapter",
    [
        LoraConfig(target_modules=["q_proj"], init_lora_weights=False),
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5),
    ],
    ids=["lora", "promptTuning"],
)
def test_a_fused_head_works_behind_an_adapter(adapter: Any, tiny_llama: Path) -> None:
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_llama), adapter).eval()
    data = batch()
    head = fused_head(model, PADDED, lambda: data, Ranks())
    assert head is not None
    same(model, head.loss_sum(model, data), PADDED.loss_sum(model, data, 0.0))


def encoder_decoder(model: Any) -> tuple[Any, Seq2Seq, Batch]:
    task = Seq2Seq(Columns())
    task.configure(model.config, range(VOCABULARY), [])
    encoded = encode([Features({"input_ids": text, WRITTEN: text[:2]}, len(text) + 2, 2) for text in TEXTS])
    return model.eval(), task, task.collator(PADDING)(encoded, task.rows(encoded, 24))


def test_a_fused_head_works_in_an_encoder_decoder() -> None:
    config = T5Config(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=1, decoder_start_token_id=0)
    model, task, data = encoder_decoder(T5ForConditionalGeneration(config))
    head = fused_head(model, task, lambda: data, Ranks())
    assert head is not None
    same(model, head.loss_sum(model, data), task.loss_sum(model, data, 0.0))


def test_a_bias_of_each_token_after_the_head_is_a_change_of_logits(tmp_path: Path) -> None:
    model, task, data = encoder_decoder(AutoModelForSeq2SeqLM.from_pretrained(tiny_models.bart(tmp_path)))
    assert fused_head(model, task, lambda: data, Ranks()) is None


def test_a_model_that_changes_its_logits_keeps_them() -> None:
    assert fused_head(gemma().eval(), PADDED, batch, Ranks()) is None


def test_a_head_with_an_adapter_of_its_own_is_left_alone(tiny_llama: Path) -> None:
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_llama), LoraConfig(target_modules=["lm_head"]))
    assert fused_head(model, PADDED, batch, Ranks()) is None


def test_after_a_step_the_model_gives_logits_again(decoder: Any) -> None:
    data = batch()
    before = decoder(**data.inputs).logits
    head = fused_head(decoder, PADDED, lambda: data, Ranks())
    assert head is not None
    head.loss_sum(decoder, data)
    assert torch.equal(decoder(**data.inputs).logits, before)


def faster(model: Any) -> tuple[Any, Batch]:
    """A copy that attends by segment, and the batch that says where they are."""
    quick = copy.deepcopy(model)
    collate = attend_by_segment(quick, PACKED.collator(PADDING))
    return quick, collate(ENCODED, PACKED.rows(ENCODED, 24))


def compared(model: Any, slow: Batch) -> None:
    quick, data = faster(model)
    assert quick.config._attn_implementation == NAME
    assert SEGMENT_ENDS in data.inputs
    ours, theirs = PACKED.loss_sum(quick, data, 0.0), PACKED.loss_sum(model, slow, 0.0)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients(quick, ours), gradients(model, theirs), rtol=1e-4, atol=1e-5)


def test_attention_by_segment_equals_attention_with_masks(decoder: Any) -> None:
    compared(decoder, batch(PACKED))


@pytest.mark.parametrize("make", [deepseek, mistral])
def test_attention_by_segment_knows_other_kinds_of_attention(make: Any) -> None:
    """DeepSeek's values are narrower than its keys; Mistral's window, of 4 tokens here, is left to masks."""
    torch.manual_seed(0)
    compared(make().eval(), batch(PACKED))


def test_attention_by_segment_is_what_computes(decoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the masks: a model that falls back to them would notice that they are gone."""
    quick, data = faster(decoder)
    expected = PACKED.loss_sum(quick, data, 0.0)
    from transformers import AttentionInterface

    def without_mask(*given: Any, **options: Any) -> Any:
        module, query, key, value, _ = given
        return segment_attention(module, query, key, value, None, **options)

    monkeypatch.setitem(AttentionInterface._global_mapping, NAME, without_mask)
    assert torch.equal(PACKED.loss_sum(quick, data, 0.0), expected)


def test_batches_that_are_not_packed_stay_as_they_are(tiny_llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    data = attend_by_segment(model, PADDED.collator(PADDING))(ENCODED, [[0], [1]])
    assert SEGMENT_ENDS not in data.inputs
    assert torch.isfinite(PADDED.loss_sum(model, data, 0.0))
