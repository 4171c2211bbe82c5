"""Whole runs on data that is cleaned, augmented and balanced: a killed one goes on the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.in_process import run
from trainer.jobs import job, write_jsonl


@pytest.mark.parametrize("balance", ["Weights", "Oversample"])
def test_a_killed_run_goes_on_the_same(balance: str, tiny_bert: Path, tickets: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in tickets.read_text().splitlines()]
    uneven = [row for n, row in enumerate(rows) if row["label"] != "billing" or n % 5 == 0]
    uneven += [{"text": " ", "label": "billing"}, {"text": "mail a@b.de two", "label": "billing"}]
    data = write_jsonl(tmp_path / "train.jsonl", uneven)

    def config(root: Path) -> Any:
        return job(
            root,
            tiny_bert,
            data,
            dataset={
                "cleaning": {"empty": "Drop", "redact": {"kinds": ["Email"]}},
                "augmentation": {"text": {"swap": 0.3}},
                "sampling": {"balance": balance},
                "split": {"test": 0.2, "stratifyBy": "label"},
            },
            checkpoint={"everySteps": 4},
            maxSteps=8,
        )

    whole, expected = run(config(tmp_path / "a"), tmp_path / "a")
    _, before = run(config(tmp_path / "b"), tmp_path / "b", end_at=6)
    resumed, after = run(config(tmp_path / "b"), tmp_path / "b")
    assert min(after) == 5
    assert {**before, **after} == expected
    assert resumed.metrics == whole.metrics
    report = json.loads((tmp_path / "b/output/data_report.json").read_text())
    assert report["cleaning"]["train"]["dropped"] == {"empty": 1}
    assert report["cleaning"]["train"]["redacted"] == {"Email": 1}
    assert report["augmented"] > 0
