"""Data larger than memory: preparation holds a few numbers of each row, whatever the row's size."""

import tracemalloc
from pathlib import Path

from finetune_api.dataset import Dataset
from trainer.jobs import write_jsonl

ROW_BYTES = 150
"""Its place and identity, twice with a copy; where its tokens begin, and what sorting takes for a while."""
SETTINGS = {
    "cleaning": {"duplicates": "Drop", "whitespace": "Collapse"},
    "split": {"validation": 0.1, "test": 0.1, "stratifyBy": "label"},
}


def test_memory_grows_by_a_few_bytes_a_row(tiny_bert: Path, tmp_path: Path) -> None:
    few, many = 3000, 6000  # both of several chunks
    peak(tmp_path / "imports", 40, tiny_bert)
    grown = peak(tmp_path / "many", many, tiny_bert) - peak(tmp_path / "few", few, tiny_bert)
    assert grown < (many - few) * ROW_BYTES


def peak(folder: Path, rows: int, model: Path) -> int:
    """Bytes that Python and NumPy held at most while `rows` rows of 1,100 bytes were prepared."""
    from finetune_trainer.data.prepare import prepare
    from finetune_trainer.tasks.text_classification import TextClassification

    text = f"{'parcel ' * 10}{'x' * 1000}"
    data = write_jsonl(folder / "train.jsonl", [{"text": f"{text} {n}", "label": n % 2} for n in range(rows)])
    dataset = Dataset.model_validate({"train": {"source": f"file://{data}"}, "maxLength": 512, **SETTINGS})
    task = TextClassification(dataset.columns)
    tokenizer = task.load_processor(model)
    tracemalloc.start()
    try:
        prepare(dataset, task, tokenizer, 512, folder, lambda uri: Path(uri[7:]))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
