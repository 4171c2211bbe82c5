"""The same small language model trained by four programs: `benchmarks.rivals` lets them take turns.

Every contender gets the same texts as token ids and trains one pass over them with AdamW. What is timed is training
alone: models, trainers and packed rows are made before the clock starts.
"""

import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import (
    DataCollatorForLanguageModeling,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

from benchmarks.trainer_loop import PADDING, bare_loop, our_loop
from finetune_api.dataset import Columns
from finetune_api.training import Precision, Training
from finetune_trainer.data.encoded import encode
from finetune_trainer.loop.feed import Feed
from finetune_trainer.loop.forward import precision_context
from finetune_trainer.loop.plan import StepPlan, plan_steps
from finetune_trainer.tasks.text_generation import TextGeneration, learnt_tokens

Texts = list[list[int]]


@dataclass(frozen=True)
class Setting:
    """A model, texts and batches that suit a device."""

    model: dict[str, int]
    row: int
    """Longest text, and length of a packed row."""
    median: float
    """Of the log-normal lengths."""
    texts: int
    """A round."""
    padded_batch: int
    """Texts of a step where they are padded."""
    packed_batch: int
    """Rows of a step where they are packed: about as many tokens."""
    precision: Precision
    peak_flops: float | None = None
    """Of the device in this precision, where it is known."""

    @property
    def device(self) -> torch.device:
        """Where it trains."""
        return torch.device("cuda:0" if self.peak_flops else "cpu")


CPU = Setting(
    model={
        "vocab_size": 8192,
        "hidden_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "intermediate_size": 512,
    },
    row=512,
    median=110,
    texts=32,
    padded_batch=8,
    packed_batch=3,
    precision="Float32",
)
H100_BFLOAT16 = 989e12
"""Dense, by NVIDIA's data sheet; the same for the H200."""
GPU = Setting(
    model={
        "vocab_size": 151936,
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "intermediate_size": 4864,
    },
    row=4096,
    median=220,
    texts=256,
    padded_batch=8,
    packed_batch=1,
    precision="BFloat16",
    peak_flops=H100_BFLOAT16,
)


@dataclass(frozen=True)
class Spent:
    """What one round cost."""

    tokens: int
    """Of the texts; padding does not count."""
    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int
    """Above what the process held before the round."""


def texts_of(setting: Setting, number: int) -> Texts:
    """The texts of a round: log-normal lengths, as those of instructions and answers."""
    random = np.random.default_rng(number)
    lengths = np.clip(random.lognormal(np.log(setting.median), 0.9, setting.texts).astype(int), 16, setting.row)
    return [random.integers(2, setting.model["vocab_size"], length).tolist() for length in lengths]


def language_model(setting: Setting) -> Any:
    """Random weights, always the same."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {**setting.model, "max_position_embeddings": setting.row}
    model: Any = LlamaForCausalLM(LlamaConfig(**sizes, pad_token_id=0, eos_token_id=1, use_cache=False))
    return model.to(setting.device).train()


def tokenizer() -> PreTrainedTokenizerFast:
    """All that the rivals ask of one is its padding token."""
    backend = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>")


def ours(setting: Setting, texts: Texts) -> Spent:
    """Our loop as the recipe builds it, on packed rows."""
    training, plan, task, feed = _packed(setting, texts)
    with tempfile.TemporaryDirectory() as folder:
        loop = our_loop(task, language_model(setting), training, plan, feed, Path(folder), setting.device)
        with measured(setting, texts) as spent:
            loop.train()
    return spent()


def bare(setting: Setting, texts: Texts) -> Spent:
    """The shortest loop in PyTorch, on ready-made batches of packed rows."""
    training, plan, _, feed = _packed(setting, texts)
    data = [feed.at(step) for step in range(plan.total_steps)]
    batches = [(one.micro[0].to(setting.device), one.targets) for one in data]
    turn = bare_loop(language_model(setting), training)
    with measured(setting, texts) as spent, precision_context(setting.precision, setting.device):
        turn(batches)
    return spent()


def hugging_face(setting: Setting, texts: Texts) -> Spent:
    """transformers' Trainer with its defaults: random batches, padded to the longest."""
    arguments = TrainingArguments(per_device_train_batch_size=setting.padded_batch, **_arguments(setting))
    data = Dataset.from_dict({"input_ids": texts})
    collate = DataCollatorForLanguageModeling(tokenizer(), mlm=False)
    trainer = Trainer(language_model(setting), arguments, data_collator=collate, train_dataset=data)
    return _trained(trainer, setting, texts)


def trl(setting: Setting, texts: Texts) -> Spent:
    """TRL's SFTTrainer at its fastest: packed, nothing recomputed (its default costs a fifth of the speed), and one row
    at a time, as it lays the rows of a batch end to end and masks what they may not see of each other."""
    arguments = SFTConfig(
        per_device_train_batch_size=1,
        gradient_accumulation_steps=setting.packed_batch,
        packing=True,
        max_length=setting.row,
        activation_checkpointing=False,
        **_arguments(setting),
    )
    data = Dataset.from_dict({"input_ids": texts})
    trainer = SFTTrainer(language_model(setting), arguments, train_dataset=data, processing_class=tokenizer())
    return _trained(trainer, setting, texts)


CONTENDERS: dict[str, Callable[[Setting, Texts], Spent]] = {
    "ours": ours,
    "bare PyTorch loop, packed": bare,
    "HF Trainer, defaults": hugging_face,
    "TRL SFTTrainer, packed": trl,
}


def _arguments(setting: Setting) -> dict[str, Any]:
    return {
        "output_dir": tempfile.gettempdir(),
        "num_train_epochs": 1,
        "learning_rate": 1e-4,
        "use_cpu": setting.device.type == "cpu",
        "bf16": setting.precision == "BFloat16",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 10,
    }


def _packed(setting: Setting, texts: Texts) -> tuple[Training, StepPlan, TextGeneration, Feed]:
    task = TextGeneration(Columns(), packing=True)
    encoded = encode([learnt_tokens(text, [True] * len(text)) for text in texts])
    training = Training(
        batch_size=setting.packed_batch, learning_rate=1e-4, epochs=1, precision=setting.precision, packing=True
    )
    rows = task.rows(encoded, setting.row)
    plan = plan_steps(training, len(rows), world_size=1)
    feed = Feed(task.collator(PADDING), encoded, rows, plan, training.batch_size, training.seed, 0)
    return training, plan, task, feed


class _Timer(TrainerCallback):
    """Starts and stops the clock where the rivals' own set-up is behind them."""

    def __init__(self, setting: Setting, texts: Texts) -> None:
        self._measuring = measured(setting, texts)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.spent = self._measuring.__enter__()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._measuring.__exit__(None, None, None)


def _trained(trainer: Trainer, setting: Setting, texts: Texts) -> Spent:
    timer = _Timer(setting, texts)
    trainer.add_callback(timer)
    trainer.train()
    return timer.spent()


@contextmanager
def measured(setting: Setting, texts: Texts) -> Iterator[Callable[[], Spent]]:
    """Yields what gives the costs once it is over."""
    cuda = setting.device.type == "cuda"
    before = _start_memory(cuda)
    result: list[Spent] = []
    wall, cpu = time.perf_counter(), time.process_time()
    yield lambda: result[0]
    if cuda:
        torch.cuda.synchronize()
    seconds = time.process_time() - cpu, time.perf_counter() - wall
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result.append(Spent(sum(map(len, texts)), *seconds, peak - before))


def _start_memory(cuda: bool) -> int:
    """What is held now, from which the peak starts anew."""
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def flops_a_token(setting: Setting, texts: Texts) -> float:
    """Forward and backward: six for each weight that is multiplied with, and attention over the earlier tokens."""
    model = language_model(setting)
    multiplied = sum(p.numel() for p in model.parameters()) - model.get_input_embeddings().weight.numel()
    earlier = statistics.fmean(len(text) / 2 for text in texts for _ in text)
    width, layers = setting.model["hidden_size"], setting.model["num_hidden_layers"]
    return 6.0 * multiplied + 12.0 * layers * width * earlier
