"""Encoded examples as arrays."""

from finetune_trainer.data.encoded import Features, encode, joined


def test_chunks_join_to_what_they_would_be_at_once() -> None:
    examples = [Features({"input_ids": list(range(n)), "trained": [True] * n}, n, n) for n in (3, 1, 0, 4)]
    whole, parts = encode(examples), joined([encode(examples[:1]), encode(examples[1:])])
    for name in whole.columns:
        assert [part.tolist() for part in map(parts[name].__getitem__, range(4))] == [
            whole[name][n].tolist() for n in range(4)
        ]
        assert parts[name].values.dtype == whole[name].values.dtype
    assert (parts.lengths.tolist(), parts.targets.tolist()) == ([3, 1, 0, 4], [3, 1, 0, 4])
    assert len(joined([])) == 0
