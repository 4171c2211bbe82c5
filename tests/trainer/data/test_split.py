"""Held-out parts: in proportion, disjoint, and always the same."""

from collections import Counter

import numpy as np
import pytest

from finetune_api.dataset import Split
from finetune_trainer.data.cleaning import duplicates, without_leakage
from finetune_trainer.data.examples import Example
from finetune_trainer.data.parts import Parts
from finetune_trainer.data.reading import Where
from finetune_trainer.data.split import split_examples
from finetune_trainer.data.spool import Examples
from finetune_trainer.errors import DataError
from trainer.data.spooled import spooled


def examples(counts: dict[str, int]) -> Examples:
    return spooled(
        Example(f"{name} {n}", Where("d.jsonl", n), label=name, stratum=name)
        for name, count in counts.items()
        for n in range(count)
    )


def test_strata_keep_their_proportions() -> None:
    split = Split(validation=0.1, test=0.2, stratify_by="label")
    parts = split_examples(examples({"a": 100, "b": 50, "c": 10}), split)
    assert Counter(e.label for e in parts.test) == {"a": 20, "b": 10, "c": 2}
    assert Counter(e.label for e in parts.validation) == {"a": 10, "b": 5, "c": 1}
    assert Counter(e.label for e in parts.train) == {"a": 70, "b": 35, "c": 7}


def test_parts_are_disjoint_and_whole() -> None:
    whole = examples({"a": 37, "b": 20})
    parts = split_examples(whole, Split(validation=0.15, test=0.15))
    together = [e.content for _, part in parts.items() for e in part]
    assert sorted(together) == sorted(e.content for e in whole)
    assert (len(parts.validation), len(parts.test)) == (9, 9)


def test_the_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    whole = examples({"a": 100})
    tests = [[e.content for e in split_examples(whole, Split(test=0.2, seed=s)).test] for s in (1, 1, 2)]
    assert tests[0] == tests[1]
    assert tests[0] != tests[2]


def test_a_row_more_moves_few_others() -> None:
    before = {e.content for e in split_examples(examples({"a": 200}), Split(test=0.2)).test}
    after = {e.content for e in split_examples(examples({"a": 201}), Split(test=0.2)).test}
    assert len(before ^ after) <= 3


def test_the_smallest_class_that_fits_is_in_every_part() -> None:
    parts = split_examples(examples({"a": 60, "b": 3}), Split(validation=0.1, test=0.1, stratify_by="label"))
    assert [Counter(e.label for e in part)["b"] for _, part in parts.items()] == [1, 1, 1]


def test_a_class_that_is_too_small_to_stratify_is_named() -> None:
    with pytest.raises(DataError, match=r"stratifyBy: .*'label' needs at least 3 .*'b' \(2\)"):
        split_examples(examples({"a": 60, "b": 2}), Split(validation=0.1, test=0.1, stratify_by="label"))


def test_texts_that_are_also_held_out_leave_the_training_data() -> None:
    whole = examples({"a": 3})
    a, b, c = whole
    parts, lost = without_leakage(Parts(whole, whole.chosen(np.array([1, 2])), whole.chosen(np.array([2]))))
    assert [list(part) for _, part in parts.items()] == [[a], [b], [c]]
    assert lost == {"train": 2, "validation": 1, "test": 0}


def test_duplicates_and_contradictions_are_counted() -> None:
    [a] = examples({"a": 1})
    other = Example(a.content, a.where, label="b")
    assert duplicates(spooled([a, a, other])) == {"duplicate": 2, "contradictory": 1}


def test_training_on_nothing_but_the_test_data_is_refused() -> None:
    whole = examples({"a": 2})
    with pytest.raises(DataError, match="every training example is also in validation or test"):
        without_leakage(Parts(whole, whole.chosen(np.zeros(2, bool)), whole))


def test_validation_that_is_the_test_data_once_more_is_refused() -> None:
    """Early stopping would have nothing left to watch."""
    whole = examples({"a": 3})
    same = whole.chosen(np.array([2]))
    with pytest.raises(DataError, match=r"dataset\.validation: every example is also in test"):
        without_leakage(Parts(whole, same, same))


def grouped(sizes: dict[str, dict[str, int]]) -> Examples:
    """Examples by group, and in it by label."""
    return spooled(
        Example(f"{group} {label} {n}", Where("d.jsonl", n), label=label, stratum=label, group=group)
        for group, labels in sizes.items()
        for label, count in labels.items()
        for n in range(count)
    )


def test_a_group_is_never_in_two_parts_and_strata_keep_about_their_proportions() -> None:
    whole = grouped({f"customer {n}": {"a": n % 7 + 1, "b": n % 3} for n in range(60)})
    split = Split(validation=0.2, test=0.2, group_by="customer", stratify_by="label")
    parts = split_examples(whole, split)
    groups = [{e.group for e in part} for _, part in parts.items()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 60
    for label in ("a", "b"):
        count = sum(e.label == label for e in whole)
        for part in (parts.validation, parts.test):
            assert sum(e.label == label for e in part) == pytest.approx(0.2 * count, rel=0.1)
    again = split_examples(whole, split)
    assert [e.content for e in again.test] == [e.content for e in parts.test]


def test_a_rare_class_is_kept_in_proportion_rather_than_the_last_of_a_common_one() -> None:
    sizes = [
        {"common": 8},
        {"common": 4, "rare": 2},
        {"common": 2, "rare": 1},
        {"common": 4, "rare": 1},
        {"common": 11},
    ]
    whole = grouped({f"g{n}": labels for n, labels in enumerate(sizes)})
    parts = split_examples(whole, Split(test=0.25, group_by="customer", stratify_by="label"))
    assert sum(e.label == "rare" for e in parts.test) == 1


def test_groups_that_leave_a_part_empty_are_refused() -> None:
    whole = grouped({"one": {"a": 50}, "two": {"a": 50}})
    with pytest.raises(DataError, match=r"groupBy: 2 groups of 'customer' leave none for (validation|test)"):
        split_examples(whole, Split(validation=0.1, test=0.1, group_by="customer"))
