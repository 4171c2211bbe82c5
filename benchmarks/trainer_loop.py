"""Tokens per second of our training loop against a bare PyTorch loop: python -m benchmarks.trainer_loop

Same model, same examples in the same order, same packing, one process and one thread, in rounds that take turns.
The bare loop gets its batches ready-made and does nothing but forward, loss, backward, clip and step. Ours does all
that it does in a pod: makes the batches, watches for NaN, agrees on stopping, logs, counts and reports.

Rates are per second of this process's CPU time, which other work on the machine disturbs least; the ratio is the
median over the pairs of rounds.
"""

import copy
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from benchmarks.report import Row, table
from finetune_api.dataset import Columns
from finetune_api.method import Method
from finetune_api.training import Checkpoint, Training
from finetune_trainer.checkpoint import CheckpointStore, Lineage
from finetune_trainer.checkpoint.background import BackgroundCheckpoints
from finetune_trainer.data.batches import Batch
from finetune_trainer.data.encoded import LABEL, Encoded, Features, encode
from finetune_trainer.loop.feed import Feed
from finetune_trainer.loop.optimizer import build_optimizer, trained_parameters
from finetune_trainer.loop.plan import plan_steps
from finetune_trainer.loop.train import TrainingLoop
from finetune_trainer.methods import Adaptation, apply_method
from finetune_trainer.models.load import LoadedModel
from finetune_trainer.models.quiet import quiet_libraries
from finetune_trainer.parallel.replicated import Replicated
from finetune_trainer.ranks import Ranks
from finetune_trainer.recipe import faster_steps
from finetune_trainer.run import Run
from finetune_trainer.stop import StepAgreement, StopSignal
from finetune_trainer.tasks.task import Task
from finetune_trainer.tasks.text_classification import TextClassification
from finetune_trainer.tasks.text_generation import TextGeneration, learnt_tokens

GOAL = 0.95
ROW = 256
DEVICE = torch.device("cpu")
PADDING = SimpleNamespace(pad_token_id=0)
"""All that a batch needs of a tokenizer."""


@dataclass(frozen=True)
class Case:
    """One model and method."""

    name: str
    model: Any
    task: Task
    encoded: Encoded
    batch_size: int
    packing: bool = False


@dataclass(frozen=True)
class Result:
    """Tokens per CPU second of both loops."""

    case: str
    bare: float
    ours: float
    ratio: float


def generation() -> Case:
    """All weights of a small Llama on packed rows, lengths as in a log-normal corpus."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=512,
        max_position_embeddings=ROW,
    )
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(4.2, 0.8, 400).astype(int), 8, ROW)
    rows = [random.integers(0, 2048, length).tolist() for length in lengths]
    encoded = encode([learnt_tokens(row, [True] * len(row)) for row in rows])
    task = TextGeneration(Columns(), packing=True)
    model = _with_method(LlamaForCausalLM(config), task, {"full": {}}, [])
    return Case("Llama, full, packed", model, task, encoded, 4, packing=True)


def classification() -> Case:
    """LoRA on a small BERT, on short texts, batches of similar length."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=2048, hidden_size=192, num_hidden_layers=4, num_attention_heads=6, intermediate_size=768
    )
    config.num_labels = 6
    random = np.random.default_rng(0)
    rows = [random.integers(0, 2048, length).tolist() for length in random.integers(8, 64, 640)]
    labels = random.integers(0, 6, 640).tolist()
    encoded = encode([Features({"input_ids": r, LABEL: [c]}, len(r)) for r, c in zip(rows, labels, strict=True)])
    task = TextClassification(Columns())
    model = _with_method(BertForSequenceClassification(config), task, {"lora": {"rank": 8}}, ["classifier"])
    return Case("BERT, LoRA", model, task, encoded, 32)


def _with_method(model: Any, task: Task, method: dict[str, Any], new_modules: list[str]) -> Any:
    loaded = LoadedModel(model, new_modules, task.peft_type)
    return apply_method(loaded, Method.model_validate(method), None, total_steps=0).model


def measure(case: Case, steps: int, rounds: int) -> Result:
    """Both loops in turns, each on its own copy of the model."""
    training = Training(batch_size=case.batch_size, learning_rate=1e-4, max_steps=10**6, packing=case.packing)
    rows = case.task.rows(case.encoded, ROW)
    plan = plan_steps(training, len(rows), world_size=1)
    feed = Feed(case.task.collator(PADDING), case.encoded, rows, plan, case.batch_size, training.seed, 0)
    batches = [(data.micro[0], data.targets) for data in map(feed.at, range(steps * (rounds + 1)))]
    tokens = [feed.at(step).tokens for step in range(len(batches))]
    with tempfile.TemporaryDirectory() as folder:
        ours = our_loop(case.task, copy.deepcopy(case.model), training, plan, feed, Path(folder), DEVICE)
        bare = bare_loop(copy.deepcopy(case.model), training)
        pairs = []
        for number in range(rounds + 1):
            span = slice(number * steps, (number + 1) * steps)
            ours.plan = dataclasses.replace(plan, total_steps=(number + 1) * steps)
            turns: list[tuple[str, Callable[[], None]]] = [("bare", partial(bare, batches[span])), ("ours", ours.train)]
            seconds = dict(_timed(*turn) for turn in (turns if number % 2 else reversed(turns)))
            pairs.append((sum(tokens[span]) / seconds["bare"], sum(tokens[span]) / seconds["ours"]))
    bare_rates, our_rates = zip(*pairs[1:], strict=True)  # the first round warms up
    ratio = statistics.median(o / b for b, o in pairs[1:])
    return Result(case.name, statistics.median(bare_rates), statistics.median(our_rates), ratio)


def _timed(name: str, turn: Callable[[], None]) -> tuple[str, float]:
    started = time.process_time()
    turn()
    return name, time.process_time() - started


def our_loop(
    task: Task, model: Any, training: Training, plan: Any, feed: Feed, folder: Path, device: torch.device
) -> TrainingLoop:
    """As the recipe builds it."""
    run, ranks = Run(folder), Ranks()
    head = faster_steps(model, task, feed, training, device, ranks)
    loop = TrainingLoop(
        task=task,
        adaptation=Adaptation(model),
        strategy=Replicated(model, training, 1, device),
        training=training,
        plan=plan,
        feed=feed,
        device=device,
        run=run,
        checkpoints=BackgroundCheckpoints(
            CheckpointStore(f"file://{folder}/checkpoints", 1, ranks, folder, Lineage()), ranks
        ),
        agreement=StepAgreement(ranks, StopSignal(), Checkpoint(storage="file:///unused", every_minutes=600)),
        head=head,
    )
    loop.prepare()
    return loop


def bare_loop(model: Any, training: Training) -> Callable[[list[tuple[Batch, int]]], None]:
    """The shortest loop that trains the same."""
    named = trained_parameters(model)
    optimizer = build_optimizer(model, named, training)
    model.train()

    def turn(batches: list[tuple[Batch, int]]) -> None:
        for batch, targets in batches:
            logits = model(**batch.inputs, **batch.options).logits
            chosen = logits.flatten(0, -2).index_select(0, batch.positions).float()
            (functional.cross_entropy(chosen, batch.targets, reduction="sum") / targets).backward()
            torch.nn.utils.clip_grad_norm_(named.values(), training.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return turn


def run(steps: int = 4, rounds: int = 13) -> list[Row]:
    """One row a case."""
    torch.set_num_threads(1)
    quiet_libraries("cpu")
    results = [measure(make(), steps, rounds) for make in (generation, classification)]
    return [_row(result) for result in results]


def _row(result: Result) -> Row:
    rates = f"{result.ours:,.0f} / {result.bare:,.0f} tokens/s = {result.ratio:.3f}"
    return Row("trainer loop / bare loop", result.case, rates, f"≥ {GOAL}", result.ratio >= GOAL)


if __name__ == "__main__":
    print(table(run()))
