"""Altered copies, weights and repeated examples: what a job asks for, always the same."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from finetune_api.augmentation import TextAugmentation
from finetune_api.data_preparation import Sampling
from finetune_trainer.data.augmentation import augmented, read_synonyms
from finetune_trainer.data.examples import Example
from finetune_trainer.data.reading import Row, Where
from finetune_trainer.errors import DataError

TEXT = "the parcel of my last order never came to my door"


def copies_of(text: str, table: dict[str, list[str]] | None = None, **settings: Any) -> list[str]:
    example = Example(text, Where("train.jsonl", 1), label="delivery")
    made = list(augmented([example], TextAugmentation.model_validate(settings), table or {}))
    assert all(copy.label == "delivery" and copy.where == example.where for copy in made)
    return [copy.content for copy in made]


def test_copies_are_made_by_deletion_swap_and_synonyms() -> None:
    words = TEXT.split()
    for copy in copies_of(TEXT, copies=8, deletion=0.3):
        left = iter(words)
        assert all(word in left for word in copy.split()), "what stays keeps its order"
    assert all(sorted(copy.split()) == sorted(words) for copy in copies_of(TEXT, copies=8, swap=0.4))
    table = {"parcel": ["package"], "order": ["purchase"]}
    replaced = copies_of(TEXT, table, synonyms={"source": "file:///s.csv", "share": 1})
    assert replaced == ["the package of my last purchase never came to my door"]


def test_copies_are_the_same_for_the_same_seed_and_differ_from_each_other() -> None:
    first = copies_of(TEXT, copies=4, deletion=0.2, swap=0.2)
    assert first == copies_of(TEXT, copies=4, deletion=0.2, swap=0.2)
    assert first != copies_of(TEXT, copies=4, deletion=0.2, swap=0.2, seed=1)
    assert len({*first, TEXT}) == len(first) + 1
    assert copies_of("parcel", copies=4, deletion=0.9, swap=0.9) == [], "nothing of one word can be changed"


def test_synonyms_are_read_by_word() -> None:
    pairs = [("Parcel", "package"), ("parcel", " shipment ")]
    rows = [Row({"word": w, "synonym": s}, Where("s.csv", n)) for n, (w, s) in enumerate(pairs, start=2)]
    assert read_synonyms(rows) == {"parcel": ["package", "shipment"]}
    with pytest.raises(DataError, match=r"s\.csv line 9: no column 'synonym'"):
        read_synonyms([Row({"word": "x"}, Where("s.csv", 9))])


def test_copies_that_would_equal_their_originals_are_refused() -> None:
    with pytest.raises(ValidationError, match="set deletion, swap or synonyms"):
        TextAugmentation(copies=2)
    with pytest.raises(ValidationError, match="balance and weights are both set"):
        Sampling(balance="Weights", weights={"a": 2})


@pytest.fixture
def encoded() -> Any:
    from finetune_trainer.data.encoded import LABEL, Features, encode

    labels = [0] * 6 + [1] * 3 + [2]
    return encode([Features({"input_ids": [n], LABEL: [label]}, 1) for n, label in enumerate(labels)])


def test_balanced_weights_make_classes_count_alike_with_a_mean_of_one(encoded: Any) -> None:
    from finetune_trainer.data.sampling import class_weights

    names = ["a", "b", "c"]
    weights = class_weights(Sampling(balance="Weights"), encoded, names)
    assert weights is not None
    assert (weights * weights.new_tensor([6, 3, 1])).tolist() == pytest.approx([10 / 3] * 3)
    given = class_weights(Sampling(weights={"c": 5}), encoded, names)
    assert given is not None
    assert (given / given[0]).tolist() == pytest.approx([1, 1, 5])
    assert class_weights(Sampling(balance="Oversample"), encoded, names) is None
    with pytest.raises(DataError, match="there is no class 'd'; the classes are a, b, c"):
        class_weights(Sampling(weights={"d": 2}), encoded, names)


@pytest.mark.parametrize(("balance", "size"), [("Oversample", 6), ("Undersample", 1)])
def test_resampled_classes_are_of_one_size(balance: Any, size: int, encoded: Any) -> None:
    from finetune_trainer.data.rows import Rows
    from finetune_trainer.data.sampling import resampled

    rows = Rows.of_one(np.arange(10))
    again = resampled(rows, encoded, Sampling(balance=balance), seed=3)
    assert again.examples.tolist() == resampled(rows, encoded, Sampling(balance=balance), seed=3).examples.tolist()
    labels = np.asarray(encoded.labels)[[row[0] for row in again]]
    assert np.bincount(labels).tolist() == [size] * 3
    if balance == "Oversample":
        assert {row[0] for row in again} == set(range(10)), "nothing is lost"
    assert resampled(rows, encoded, None, seed=3) is rows


def test_weights_reach_the_loss(encoded: Any) -> None:
    import torch

    from finetune_trainer.data.batches import classification_batch
    from finetune_trainer.data.sampling import weighted
    from finetune_trainer.tasks.cross_entropy import CrossEntropy

    class Fixed(torch.nn.Module):
        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return type("Output", (), {"logits": torch.zeros(len(input_ids), 3)})

    def plain(encoded: Any, rows: list[list[int]]) -> Any:
        return classification_batch(encoded, [row[0] for row in rows], 0)

    def loss(collate: Any, smoothing: float = 0.0) -> float:
        return float(CrossEntropy().loss_sum(Fixed(), collate(encoded, [[0], [9]]), smoothing))

    assert loss(plain) == pytest.approx(2 * np.log(3))
    heavy = weighted(plain, torch.tensor([1.0, 1.0, 5.0]))
    assert loss(heavy) == loss(heavy, smoothing=0.1) == pytest.approx(6 * np.log(3)), "of examples, not of classes"


def test_what_sampling_makes_of_the_data_is_reported(encoded: Any) -> None:
    from finetune_trainer.data.sampling import sampling_report

    names = ["a", "b", "c"]
    assert sampling_report(Sampling(balance="Undersample"), encoded, names) == {
        "examplesPerEpoch": 3,
        "leftOut": 7,
        "repeated": 0,
    }
    assert sampling_report(Sampling(balance="Oversample"), encoded, names)["repeated"] == 3 + 5
    assert sampling_report(Sampling(balance="Weights"), encoded, names)["weights"]["c"] == pytest.approx(3.3333)
    assert sampling_report(None, encoded, names) == sampling_report(Sampling(), encoded, names) == {}
