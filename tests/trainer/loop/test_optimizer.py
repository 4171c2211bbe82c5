"""Which weights an optimizer changes, how fast, and that its state is whole."""

import math
from typing import Any

import pytest

from finetune_api.training import Training
from finetune_trainer.errors import ConfigurationError

EVERY = ("AdamW", "AdamW8bit", "Adafactor", "Muon")


@pytest.fixture
def bert() -> Any:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 96}
    # 96 × 64 weights: enough for bitsandbytes to keep their state in 8 bits.
    return BertForSequenceClassification(BertConfig(vocab_size=80, max_position_embeddings=16, num_labels=2, **sizes))


def updater(model: Any, **training: Any) -> Any:
    import torch

    from finetune_trainer.loop.updater import Updater

    settings = Training.model_validate({"learningRate": 1e-2, **training})
    return Updater(model, settings, torch.device("cpu"))


def take_steps(model: Any, updater: Any, steps: range) -> None:
    import torch

    for step in steps:
        ids = torch.arange(4 * 8).reshape(4, 8).add(step).remainder(80)
        loss = torch.nn.functional.cross_entropy(model(input_ids=ids).logits, torch.tensor([0, 1, 0, 1]))
        updater.backward(loss)
        updater.step(1e-2)
        updater.forget()


@pytest.mark.parametrize(("optimizer", "precision"), [*((name, "Float32") for name in EVERY), ("AdamW", "Float16")])
def test_a_restored_optimizer_goes_on_as_if_it_had_never_stopped(optimizer: str, precision: str, bert: Any) -> None:
    import copy

    import torch

    bert.eval()
    first = updater(bert, optimizer=optimizer, weightDecay=0.01, l1=1e-5, precision=precision)
    take_steps(bert, first, range(1))
    # As safetensors would hold them: copies, of tensors alone.
    saved, scaling = {name: t.clone() for name, t in first.state().items()}, copy.deepcopy(first.loss_scaling())
    other = copy.deepcopy(bert)
    take_steps(bert, first, range(1, 2))

    second = updater(other, optimizer=optimizer, weightDecay=0.01, l1=1e-5, precision=precision)
    second.restore(saved)
    second.load_loss_scaling(scaling)
    take_steps(other, second, range(1, 2))
    for (name, one), two in zip(bert.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two), name
    assert bool(scaling) == (precision == "Float16"), "the loss scale is state"


@pytest.mark.parametrize(("optimizer", "rate"), [("AdamW8bit", 3e-3), ("Adafactor", 0.1), ("Muon", 3e-3)])
def test_an_optimizer_learns(optimizer: str, rate: float, bert: Any) -> None:
    import torch

    bert.eval()
    made = updater(bert, optimizer=optimizer)
    ids, labels = torch.arange(8 * 4).reshape(4, 8), torch.tensor([0, 1, 0, 1])
    losses = []
    for _ in range(12):
        loss = torch.nn.functional.cross_entropy(bert(input_ids=ids).logits, labels)
        made.backward(loss)
        made.step(rate)
        made.forget()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0], losses


def test_eight_bit_state_is_kept_in_eight_bits(bert: Any) -> None:
    import torch

    eight = updater(bert, optimizer="AdamW8bit")
    take_steps(bert, eight, range(1))
    sizes = {name: t.dtype for name, t in eight.state().items() if name.endswith("intermediate.dense.weight/state1")}
    assert set(sizes.values()) == {torch.uint8}


def test_muon_changes_hidden_matrices_and_adamw_the_rest(bert: Any) -> None:
    from finetune_trainer.loop.optimizer import hidden_matrices

    hidden = hidden_matrices(bert, dict(bert.named_parameters()))
    assert len(hidden) == 3 * 6
    assert all(".encoder.layer." in f".{name}" for name in hidden)
    made = updater(bert, optimizer="Muon")
    take_steps(bert, made, range(1))
    of_muon = {name.rsplit("/", 1)[0] for name in made.state() if name.endswith("momentum_buffer")}
    of_adamw = {name.rsplit("/", 1)[0] for name in made.state() if name.endswith("exp_avg_sq")}
    assert of_muon == hidden
    assert of_adamw == {name for name, _ in bert.named_parameters()} - hidden


def test_muon_without_a_hidden_matrix_is_refused() -> None:
    import torch

    with pytest.raises(ConfigurationError, match="Muon is for matrices inside the model's layers"):
        updater(torch.nn.Linear(3, 3), optimizer="Muon")


def test_each_layer_learns_more_slowly_than_the_one_above(bert: Any) -> None:
    from finetune_trainer.loop.optimizer import learning_rate_scales

    scales = learning_rate_scales(bert, dict(bert.named_parameters()), 0.5)
    assert scales["classifier.weight"] == scales["bert.pooler.dense.bias"] == 1.0
    assert [scales[f"bert.encoder.layer.{n}.output.dense.weight"] for n in range(3)] == [0.125, 0.25, 0.5]
    assert scales["bert.embeddings.word_embeddings.weight"] == 0.0625
    made = updater(bert, layerwiseLearningRateDecay=0.5)
    made.step(0.8)
    rates = {group["lr"] for group in made.optimizer.param_groups}
    assert rates == {0.8, 0.4, 0.2, 0.1, 0.05}


def test_an_adapter_learns_as_fast_as_the_layer_that_it_stands_beside(bert: Any) -> None:
    from peft import LoraConfig, get_peft_model

    from finetune_trainer.loop.optimizer import learning_rate_scales, trained_parameters

    config = LoraConfig(task_type="SEQ_CLS", target_modules=["query"], modules_to_save=["classifier"])
    adapted = get_peft_model(bert, config)
    scales = learning_rate_scales(adapted, trained_parameters(adapted), 0.5)
    found = {(int(name.split(".layer.")[1][0]), scale) for name, scale in scales.items() if "lora_" in name}
    assert found == {(0, 0.125), (1, 0.25), (2, 0.5)}
    assert {scale for name, scale in scales.items() if "classifier" in name} == {1.0}


@pytest.mark.parametrize(("limit", "left"), [(0.5, 0.5), (0, 12.0), (100, 12.0)])
@pytest.mark.parametrize("precision", ["Float32", "Float16"])
def test_gradients_are_clipped_by_the_norm_of_all_as_they_were_before_scaling(
    limit: float, left: float, precision: str, bert: Any
) -> None:
    made = updater(bert, maxGradNorm=limit, precision=precision)
    made.backward(12 * sum(parameter.sum() for parameter in bert.parameters()) / count(bert) ** 0.5)
    assert float(made.step(1e-2)) == pytest.approx(12.0, rel=1e-4)
    clipped = sum(float(parameter.grad.square().sum()) for parameter in bert.parameters()) ** 0.5
    assert clipped == pytest.approx(left, rel=1e-4)


def count(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_l1_pulls_matrices_to_zero_and_leaves_biases(bert: Any) -> None:
    made = updater(bert, l1=0.5, maxGradNorm=0)
    for parameter in bert.parameters():
        parameter.grad = parameter.detach() * 0
    made._add_l1()
    weight = bert.classifier.weight
    assert weight.grad.equal(0.5 * weight.detach().sign())
    assert not bert.classifier.bias.grad.any()


def test_factors_are_not_drawn_to_zero_by_decay_or_l1(bert: Any) -> None:
    from peft import IA3Config, get_peft_model

    modules = {"target_modules": ["key", "output.dense"], "feedforward_modules": ["output.dense"]}
    made = updater(get_peft_model(bert, IA3Config(task_type="SEQ_CLS", **modules)), weightDecay=0.1, l1=0.5)
    for parameter in made.named.values():
        parameter.grad = parameter.detach() * 0
    made.step(1e-2)
    factors = {name: factor for name, factor in made.named.items() if "ia3" in name}
    assert {tuple(factor.shape) for factor in factors.values()} == {(64, 1), (1, 64), (1, 96)}
    assert all((factor == 1).all() for factor in factors.values())


def test_a_step_whose_gradients_overflow_in_float16_is_left_out_and_the_scale_falls(bert: Any) -> None:
    made = updater(bert, precision="Float16")
    take_steps(bert, made, range(1))
    before, scale = bert.classifier.weight.detach().clone(), made.loss_scaling()["scale"]
    for parameter in bert.parameters():
        parameter.grad = parameter.detach() * float("inf")
    made.step(1e-2)
    assert bert.classifier.weight.detach().equal(before)
    assert made.loss_scaling()["scale"] == scale / 2


def test_a_scale_that_falls_without_end_ends_the_run() -> None:
    import torch

    from finetune_trainer.loop.watchdog import FiniteWatchdog, NotFiniteError

    watchdog = FiniteWatchdog(torch.device("cpu"), scaled=True)
    watchdog.observe(1, torch.tensor(1.0), torch.tensor(math.inf))
    watchdog.check(loss_scale=1024.0)
    with pytest.raises(NotFiniteError, match=r"set training\.precision to BFloat16"):
        watchdog.check(loss_scale=2.0**-20)
    watchdog.observe(2, torch.tensor(math.nan), torch.tensor(1.0))
    with pytest.raises(NotFiniteError, match="since at step 2"):
        watchdog.check(loss_scale=1024.0)


@pytest.mark.parametrize("optimizer", EVERY)
def test_a_weight_without_a_gradient_needs_no_state(optimizer: str, bert: Any) -> None:
    """Such as the mask token of a vision model, which only pre-training uses."""
    import torch

    bert.mask_token = torch.nn.Parameter(torch.zeros(64))
    first = updater(bert, optimizer=optimizer)
    take_steps(bert, first, range(1))
    saved = {name: tensor.clone() for name, tensor in first.state().items()}
    assert not any(name.startswith("mask_token") for name in saved)
    updater(bert, optimizer=optimizer).restore(saved)
    with pytest.raises(ValueError, match=r"does not fit the model: .*stranger"):
        updater(bert, optimizer=optimizer).restore({**saved, "stranger/exp_avg": torch.zeros(1)})
