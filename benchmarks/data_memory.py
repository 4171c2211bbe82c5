"""`python -m benchmarks.data_memory [MB ...]`: memory that preparing data and the order of an epoch take, by its size.

Each size in a process of its own, which prepares a little data first: what that loads is not counted.
"""

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

SIZES = (30, 300)
MEBIBYTE = 1 << 20
WORDS = [
    *("my", "card", "was", "charged", "twice", "please", "refund", "it", "the", "parcel", "never", "came"),
    *("where", "is", "cannot", "log", "in", "password"),
]


def main(sizes: list[int]) -> None:
    print("| data | rows | memory before | peak on top |\n|---|---|---|---|")
    for size in sizes:
        print(subprocess.check_output([sys.executable, "-m", "benchmarks.data_memory", "--one", str(size)], text=True))


def one(megabytes: int) -> None:
    """Prints a line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        prepared(Path(folder) / "first", 1)
        before = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
        rows = prepared(Path(folder) / "measured", megabytes)
        grown = status("VmHWM") - before
    print(f"| {megabytes} MB | {rows} | {before // MEBIBYTE} MiB | {grown // MEBIBYTE} MiB |", end="")


def prepared(folder: Path, megabytes: int) -> int:
    """Rows of a kilobyte, made, prepared, and put into the order of an epoch."""
    from finetune_api.dataset import Dataset
    from finetune_trainer.data.order import DataOrder
    from finetune_trainer.data.prepare import prepare
    from finetune_trainer.tasks.text_classification import TextClassification

    folder.mkdir()
    rows = write_rows(folder / "train.jsonl", megabytes)
    source = {"source": (folder / "train.jsonl").as_uri()}
    split = {"validation": 0.1, "test": 0.1, "stratifyBy": "label"}
    dataset = Dataset.model_validate({"train": source, "split": split, "cleaning": {"duplicates": "Drop"}})
    task = TextClassification(dataset.columns)
    data = prepare(dataset, task, tokenizer(), 4096, folder, lambda uri: Path(uri.removeprefix("file://")))
    of_batches = task.rows(data.train, 4096)
    DataOrder(of_batches.sums(data.train.lengths), batch_size=8, seed=0).batches(0)
    return rows


def write_rows(file: Path, megabytes: int) -> int:
    draws, rows = random.Random(1), 0
    with file.open("w") as out:
        while out.tell() < megabytes * 1_000_000:
            text = " ".join(draws.choices(WORDS, k=180))
            out.write(json.dumps({"text": f"{text} {rows}", "label": "ab"[rows % 2]}) + "\n")
            rows += 1
    return rows


def tokenizer() -> object:
    """Whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *dict.fromkeys(WORDS)])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")


def status(name: str) -> int:
    """Of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(int(sys.argv[2]))
    else:
        main([int(size) for size in sys.argv[1:]] or list(SIZES))
