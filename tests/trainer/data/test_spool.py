"""Examples on disk are the examples that were written."""

from pathlib import Path

import numpy as np

from finetune_trainer.data.chunks import chunks
from finetune_trainer.data.entities import Entity
from finetune_trainer.data.examples import Example
from finetune_trainer.data.row import Where
from finetune_trainer.data.spool import Spool

HERE = Where("train.jsonl", 3)


def test_examples_come_back_as_they_were_and_leave_no_file(tmp_path: Path) -> None:
    soft = np.array([-0.1, -2.3], np.float32)
    written = [
        Example(("a prompt", "a completion"), HERE, stratum="s", group="g"),
        Example("Ann", HERE, target=[Entity(0, 3, "PERSON")]),
        Example([{"role": "user", "content": "hello"}], Where("a.parquet", 7, "row"), label="x", soft_label=soft),
    ]
    examples = Spool(tmp_path).add(iter(written))
    assert list(examples)[:2] == written[:2]
    assert str(examples[2].where) == "a.parquet row 7"
    assert examples[2].soft_label.tolist() == soft.tolist()
    assert list(tmp_path.iterdir()) == []


def test_examples_are_read_while_others_are_written(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    some = spool.add(Example(str(n), HERE) for n in range(100))
    more = spool.add(Example(one.content + "!", HERE) for one in some)
    assert [one.content for one in some.chosen(np.array([99, 3])) + more.chosen(np.array([5]))] == ["99", "3", "5!"]


def test_equal_contents_are_told_by_their_identities_alone(tmp_path: Path) -> None:
    one, other, again = Spool(tmp_path).add(iter([Example(c, HERE, label=c) for c in ("a", "b", "a")])).identities()
    assert one.tolist() == again.tolist() != other.tolist()


def test_long_examples_come_in_smaller_chunks() -> None:
    long, short = "x" * (3 << 20), "x"
    sizes = [len(chunk) for chunk in chunks((Example(c, HERE) for c in (long, long, long, *[short] * 5)), 3)]
    assert sizes == [2, 3, 3]
