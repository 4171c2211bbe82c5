"""Encoded examples as arrays."""

from pathlib import Path

import numpy as np
import pytest

from finetune_trainer.data.encoded import Features, encode
from finetune_trainer.data.encoded_writer import EncodedWriter


def test_chunks_are_written_to_what_they_would_be_at_once(tmp_path: Path) -> None:
    columns = [
        {"input_ids": list(range(n)), "trained": [True] * n, "file": b"x" * n, "none": [], "soft": np.ones(2)}
        for n in (0, 3, 1, 4)
    ]
    examples = [Features(some, n, n) for n, some in enumerate(columns)]
    whole, writer = encode(examples), EncodedWriter(tmp_path)
    for start, end in ((0, 1), (1, 3), (3, 4)):
        writer.add(encode(examples[start:end]))
    parts = writer.close()
    assert parts.columns.keys() == whole.columns.keys()
    for name in whole.columns:
        assert [parts[name][n].tolist() for n in range(4)] == [whole[name][n].tolist() for n in range(4)]
        assert parts[name].values.dtype == whole[name].values.dtype
    assert (parts.lengths.tolist(), parts.targets.tolist()) == ([0, 1, 2, 3], [0, 1, 2, 3])


def test_nothing_is_an_empty_part(tmp_path: Path) -> None:
    assert len(EncodedWriter(tmp_path).close()) == 0


def test_a_column_that_changes_its_kind_is_refused(tmp_path: Path) -> None:
    writer = EncodedWriter(tmp_path)
    writer.add(encode([Features({"input_ids": [1]}, 1)]))
    with pytest.raises(TypeError, match="float32"):
        writer.add(encode([Features({"input_ids": [1.0]}, 1)]))
