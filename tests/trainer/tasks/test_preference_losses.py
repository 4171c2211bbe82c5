"""Losses over preferences: TRL's numbers, and none that depends on the model's own length or the batch's padding."""

from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_api.dataset import Columns
from finetune_api.preference import Preference
from finetune_trainer.data.encoded import Column, Encoded, encode
from finetune_trainer.data.row import Row, Where
from finetune_trainer.metrics.judgements import judged_metrics
from finetune_trainer.metrics.preferences import pair_metrics
from finetune_trainer.models.tokenizer import load_tokenizer
from finetune_trainer.tasks.paired_preferences import PairedPreferences
from finetune_trainer.tasks.preference_task import REFERENCE, PreferenceTask
from finetune_trainer.tasks.task import STEP, StepWide
from finetune_trainer.tasks.unpaired_preferences import GOOD, UnpairedPreferences, kto_losses

PAIRS = [
    {"prompt": "hello ", "chosen": "thanks you", "rejected": "what is broken"},
    {"prompt": "question : one ", "chosen": "two", "rejected": "crashes app"},
    {"prompt": "where is my parcel ", "chosen": "please", "rejected": "never"},
]
JUDGED = [
    {"prompt": pair["prompt"], "completion": pair[role], "label": role == "chosen"}
    for pair in PAIRS
    for role in ("chosen", "rejected")
]
BETA = 0.3


@pytest.fixture(scope="module")
def models(tiny_llama: Path) -> tuple[Any, Any]:
    """The model before and after some training."""
    from transformers import AutoModelForCausalLM

    before, after = (AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval() for _ in range(2))
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in after.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    return before, after


def encoded(task: PreferenceTask, rows: list[dict[str, Any]], tokenizer: Any) -> Encoded:
    examples = [task.read(Row(row, Where("d.jsonl", n))) for n, row in enumerate(rows, 1)]  # type: ignore[attr-defined]
    return encode(task.encode(examples, tokenizer, []))  # type: ignore[attr-defined]


def with_reference(task: PreferenceTask, model: Any, data: Encoded, tokenizer: Any) -> Encoded:
    batch = task.collator(tokenizer)(data, [[i] for i in range(len(data))])  # type: ignore[attr-defined]
    values = task.log_probabilities(model, batch).view(2, -1).T.detach().numpy()
    ends = torch.arange(0, values.size + 1, 2).numpy()
    return data.with_column(REFERENCE, Column(values.ravel(), ends))


def loss(task: PreferenceTask, models: tuple[Any, Any], rows: list[dict[str, Any]], folder: Path) -> float:
    tokenizer = load_tokenizer(folder)
    data = with_reference(task, models[0], encoded(task, rows, tokenizer), tokenizer)
    batch = task.collator(tokenizer)(data, [[i] for i in range(len(data))])  # type: ignore[attr-defined]
    with torch.no_grad():
        if isinstance(task, StepWide):
            batch.extras[STEP] = task.step_sums(models[1], batch)
        return float(task.loss_sum(models[1], batch, 0.0)) / len(data)


def trl_loss(trainer: Any, after: Any) -> float:
    trainer.model.load_state_dict(after.state_dict())
    trainer.model.eval()
    [batch] = list(trainer.get_eval_dataloader())
    with torch.no_grad():
        return float(trainer.compute_loss(trainer.model, batch))


def arguments(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "beta": BETA,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "per_device_train_batch_size": 6,
        "per_device_eval_batch_size": 6,
    }


def test_dpo_is_trls(models: tuple[Any, Any], tiny_llama: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    data = Dataset.from_list(PAIRS)
    settings = DPOConfig(**arguments(tmp_path))
    tokenizer = load_tokenizer(tiny_llama)
    theirs = trl_loss(
        DPOTrainer(str(tiny_llama), args=settings, train_dataset=data, eval_dataset=data, processing_class=tokenizer),
        models[1],
    )
    ours = loss(PairedPreferences(Columns(), BETA), models, PAIRS, tiny_llama)
    assert ours == pytest.approx(theirs, rel=1e-4)
    assert abs(ours - 0.6931) > 1e-2, "the models differ"


def test_kto_is_trls_given_the_same_mismatched_completions(models: tuple[Any, Any], tiny_llama: Path) -> None:
    """TRL's own pairs its mismatches otherwise, so equation 8 is compared on given log-ratios."""
    own, others = torch.tensor([0.4, -0.3, 0.2]), torch.tensor([0.3, 0.1, -0.1])
    good = torch.tensor([True, False, True])
    preference = Preference(loss="KTO", beta=BETA, undesirable_weight=0.7)
    moved = others.mean().clamp(min=0)
    chosen = 1 - torch.sigmoid(BETA * (own[good] - moved))
    rejected = 0.7 * (1 - torch.sigmoid(BETA * (moved - own[~good])))
    found = kto_losses(own, moved, good, preference)
    torch.testing.assert_close(found, torch.stack([chosen[0], rejected[0], chosen[1]]))
    assert loss(UnpairedPreferences(Columns(), preference), models, JUDGED, tiny_llama) != pytest.approx(0.5, abs=1e-3)


def test_a_mismatch_is_the_prompt_with_the_next_examples_completion(tiny_llama: Path) -> None:
    tokenizer = load_tokenizer(tiny_llama)
    task = UnpairedPreferences(Columns(), Preference(loss="KTO"))
    batch = task.collator(tokenizer)(encoded(task, JUDGED[:3], tokenizer), [[1], [2]])
    texts = [
        " ".join(tokenizer.convert_ids_to_tokens(row[mask.bool()]))
        for part in (batch, batch.beside)
        for row, mask in zip(part.inputs["input_ids"], part.inputs["attention_mask"], strict=True)
    ]
    assert texts == [
        "hello what is broken </s>",
        "question : one two </s>",
        "hello two </s>",
        "question : one thanks you",
    ], "none is longer than the longest text of the data"
    assert batch.extras[GOOD].tolist() == [False, True]


def mismatched(task: UnpairedPreferences, rows: list[dict[str, Any]], tokenizer: Any) -> list[str]:
    """The completion that each prompt is put before, of completions of one word."""
    batch = task.collator(tokenizer)(encoded(task, rows, tokenizer), [[n] for n in range(len(rows))])
    assert batch.beside is not None
    return tokenizer.convert_ids_to_tokens(batch.beside.targets)[::2]


def test_a_mismatch_is_never_another_completion_of_the_same_prompt(tiny_llama: Path) -> None:
    """Rows that list what was good and what was bad of each prompt, and many of one prompt."""
    tokenizer, task = load_tokenizer(tiny_llama), UnpairedPreferences(Columns(), Preference(loss="KTO"))
    row = {"prompt": "hello", "completion": "one", "label": True}
    pairs = [row, {**row, "completion": "two"}, {**row, "prompt": "my", "completion": "three"}, {**row, "prompt": "my"}]
    assert mismatched(task, pairs, tokenizer) == ["three", "three", "one", "one"]
    many = [*[row] * 200, *[{**row, "prompt": "my", "completion": "two"}] * 100]
    assert mismatched(task, many, tokenizer) == ["two"] * 200 + ["one"] * 100
    assert mismatched(task, [row, row], tokenizer) == ["one", "one"], "there is no other"


def test_log_probabilities_do_not_depend_on_padding(models: tuple[Any, Any], tiny_llama: Path) -> None:
    tokenizer = load_tokenizer(tiny_llama)
    task = PairedPreferences(Columns(), BETA)
    data, collate = encoded(task, PAIRS, tokenizer), task.collator(tokenizer)
    with torch.no_grad():
        together = task.log_probabilities(models[1], collate(data, [[0], [1], [2]]))
        alone = [task.log_probabilities(models[1], collate(data, [[i]])) for i in range(3)]
    torch.testing.assert_close(together, torch.stack(alone, dim=1).flatten())


def test_accuracy_counts_pairs_in_the_right_order() -> None:
    metrics = pair_metrics([(1.0, 0.0, True), (0.5, 0.5, True), (0.0, 2.0, True), (3.0, 1.0, True)]).metrics
    assert metrics["accuracy"] == 0.625
    assert metrics["margin"] == pytest.approx(0.25)


def test_accuracy_of_judged_completions_is_of_all_pairs_of_good_and_bad() -> None:
    preference = Preference(loss="KTO", beta=0.5)
    judged = [(True, 2.0, 0.0, True), (True, 0.0, 0.4, True), (False, 0.0, 0.0, True), (False, -1.0, 0.0, True)]
    found = judged_metrics(judged, preference)
    assert found.metrics["accuracy"] == 0.875
    assert found.metrics["margin"] == pytest.approx(0.75)
    assert found.details["kl"] == pytest.approx(0.1)
    assert "stratify the split" in judged_metrics([(True, 1.0, 0.0, True)], preference).not_computed["accuracy"]
