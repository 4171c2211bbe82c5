"""From files to encoded parts: what is lost is counted, what is wrong is refused."""

from pathlib import Path
from typing import Any

import pytest

from finetune_api.dataset import Dataset
from finetune_trainer.errors import DataError
from trainer.jobs import write_jsonl

ROWS = [
    {"text": "my card was charged twice", "label": "billing"},
    {"text": "please refund the invoice", "label": "billing"},
    {"text": "where is my parcel", "label": "delivery"},
    {"text": "the parcel never came", "label": "delivery"},
]


@pytest.fixture
def prepare(tiny_bert: Path, tiny_llama: Path, tmp_path: Path) -> Any:
    """prepare(rows, task=…, **dataset) → PreparedData."""
    from finetune_trainer.data.prepare import prepare as run
    from finetune_trainer.tasks.text_classification import TextClassification
    from finetune_trainer.tasks.text_generation import TextGeneration

    def call(rows: list[dict], generation: bool = False, held_out: dict[str, list] | None = None, **more: Any):
        sources = {"train": rows, **(held_out or {})}
        paths = {part: write_jsonl(tmp_path / f"{part}.jsonl", r) for part, r in sources.items()}
        files = {part: {"source": f"file://{path}"} for part, path in paths.items()}
        dataset = Dataset.model_validate({**files, "maxLength": 12, **more})
        task = TextGeneration(dataset.columns, packing=False) if generation else TextClassification(dataset.columns)
        tokens = task.load_processor(tiny_llama if generation else tiny_bert)
        return run(dataset, task, tokens, dataset.max_length, tmp_path, lambda uri: Path(uri[7:]))

    return call


def test_classes_are_sorted_and_counted(prepare: Any) -> None:
    data = prepare([*ROWS, {"text": "log in", "label": 7}])
    assert data.labels == ["7", "billing", "delivery"]
    assert data.train.labels.tolist() == [1, 1, 2, 2, 0]
    assert data.report["parts"]["train"]["labels"] == {"7": 1, "billing": 2, "delivery": 2}
    assert data.fingerprint.startswith("sha256:")


def test_held_out_data_are_told_by_their_inputs_alone(prepare: Any) -> None:
    test = [{"text": text, "label": "billing"} for text in ("one", "two")]

    def told(rows: list[dict]) -> dict[str, str]:
        found: dict[str, str] = prepare(ROWS, held_out={"test": rows}).report["heldOut"]
        return found

    assert prepare(ROWS).report["heldOut"] == {}
    assert list(told(test)) == ["test"]
    assert told(test) == told([{"text": "two", "label": "delivery"}, test[0]])
    assert told(test) != told([*test, {"text": "three", "label": "billing"}])


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"body": "x", "label": "a"},
            r"^dataset\.train: train\.jsonl line 5: no column 'text'; the columns are: body, label\. Set dataset\.col",
        ),
        ({"text": "x"}, r"line 5: no column 'label'; the columns are: text"),
        ({"text": " ", "label": "a"}, r"line 5: column 'text' is empty"),
        ({"text": 3, "label": "a"}, r"line 5: column 'text' holds int 3, not text"),
        ({"text": "x", "label": None}, r"line 5: column 'label' holds null"),
        ({"text": "x", "label": 1.5}, r"line 5: column 'label' holds float 1\.5"),
    ],
)
def test_a_bad_row_is_named(row: dict, expected: str, prepare: Any) -> None:
    with pytest.raises(DataError, match=expected):
        prepare([*ROWS, row])


def test_an_empty_dataset_is_refused(prepare: Any) -> None:
    with pytest.raises(DataError, match=r"dataset\.train: train\.jsonl has no examples"):
        prepare([])
    with pytest.raises(DataError, match=r"dataset\.test: test\.jsonl has no examples"):
        prepare(ROWS, held_out={"test": []})


def test_one_class_is_refused(prepare: Any) -> None:
    with pytest.raises(DataError, match=r"every example has the label 'billing'"):
        prepare(ROWS[:2])


def test_a_label_seen_only_in_test_is_refused_with_its_line(prepare: Any) -> None:
    test = [{"text": "log in", "label": "billing"}, {"text": "app", "label": "technical"}]
    with pytest.raises(DataError, match=r"test\.jsonl line 2: the label 'technical' is in no training example"):
        prepare(ROWS, held_out={"test": test})


def test_held_out_files_need_no_stratify_column(prepare: Any) -> None:
    rows = [{**row, "group": "g"} for row in ROWS]
    test = [{"text": "log in", "label": "billing"}]
    data = prepare(rows, held_out={"test": test}, split={"validation": 0.25, "stratifyBy": "group"})
    assert (len(data.train), len(data.validation), len(data.test)) == (3, 1, 1)
    with pytest.raises(DataError, match=r"no column 'nosuch'.*dataset\.split\.stratifyBy"):
        prepare(rows, split={"validation": 0.25, "stratifyBy": "nosuch"})


LONG = {"text": "one two three four five six seven eight nine ten one two", "label": "billing"}


def test_an_overlong_example_is_refused_by_default(prepare: Any) -> None:
    with pytest.raises(DataError, match=r"line 5: 14 tokens, but dataset\.maxLength is 12"):
        prepare([*ROWS, LONG])


def test_dropped_and_truncated_examples_are_counted(prepare: Any) -> None:
    dropped = prepare([*ROWS, LONG], overLength="Drop").report["parts"]["train"]
    assert (dropped["kept"], dropped["dropped"]["overLength"]) == (4, 1)
    data = prepare([*ROWS, LONG], overLength="Truncate")
    cut = data.report["parts"]["train"]
    assert (cut["kept"], cut["truncated"]) == (5, {"examples": 1, "tokens": 2, "targets": 0})
    assert data.train["input_ids"][4].tolist()[-1] == 3, "the closing [SEP] stays"


def test_losing_most_of_the_data_is_refused(prepare: Any) -> None:
    with pytest.raises(DataError, match=r"3 of 5 examples would be lost: 3 longer than dataset\.maxLength \(12\)"):
        prepare([ROWS[0], ROWS[2], *[{**LONG, "text": LONG["text"] + f" {n}"} for n in (1, 2, 3)]], overLength="Drop")


def test_a_class_whose_examples_were_all_dropped_is_refused(prepare: Any) -> None:
    with pytest.raises(DataError, match=r"every example of the label 'feedback' is longer than dataset\.maxLength"):
        prepare([*ROWS, {**LONG, "label": "feedback"}], overLength="Drop")


def test_entities_of_one_word_each_are_no_lost_class(tiny_bert: Path, tmp_path: Path) -> None:
    from finetune_trainer.data.prepare import prepare
    from finetune_trainer.tasks.token_classification import TokenClassification

    rows = [{"tokens": ["ann", "wrote"], "tags": ["B-PERSON", "O"]}]
    source = {"source": f"file://{write_jsonl(tmp_path / 'train.jsonl', rows)}"}
    dataset = Dataset.model_validate({"train": source, "maxLength": 12})
    task = TokenClassification(dataset.columns)
    tokenizer = task.load_processor(tiny_bert)
    data = prepare(dataset, task, tokenizer, 12, tmp_path, lambda uri: Path(uri[7:]))
    assert data.report["parts"]["train"]["labels"] == {"O": 1, "B-PERSON": 1, "I-PERSON": 0}


def test_examples_that_truncation_leaves_nothing_to_learn_from_are_counted_and_refused(prepare: Any) -> None:
    long = {"prompt": LONG["text"], "completion": "thanks"}
    short = [{"prompt": f"hello {n}", "completion": "thanks"} for n in range(3)]
    report = prepare([*short, long], generation=True, overLength="Truncate").report["parts"]["train"]
    assert report["dropped"]["nothingToLearn"] == 1
    with pytest.raises(DataError, match="1 with nothing left to learn"):
        prepare([long], generation=True, overLength="Truncate")


def test_leaks_and_duplicates_are_reported(prepare: Any) -> None:
    data = prepare([*ROWS, ROWS[0]], held_out={"test": [ROWS[3]]})
    train = data.report["parts"]["train"]
    assert (train["read"], train["kept"], train["duplicates"]) == (5, 4, 1)
    assert train["dropped"]["alsoHeldOut"] == 1


def test_other_data_has_another_fingerprint_and_another_cache(prepare: Any) -> None:
    first, again = prepare(ROWS), prepare(ROWS)
    other = prepare([*ROWS, {"text": "app", "label": "billing"}])
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert len(other.train) == 5


def test_generation_without_a_known_column_lists_what_there_is(prepare: Any) -> None:
    with pytest.raises(DataError, match=r"none of the columns messages .* or text; .*: body"):
        prepare([{"body": "x"}], generation=True)


def test_cleaning_comes_before_the_split_and_is_reported(prepare: Any) -> None:
    from finetune_trainer.data.report import reported_data, summary

    rows = [*ROWS, {"text": "", "label": "billing"}, {"text": " my card was charged twice", "label": "billing"}]
    test = [{"text": "Where is my  parcel", "label": "delivery"}]
    cleaning = {"whitespace": "Collapse", "empty": "Drop", "duplicates": "Drop", "nearDuplicates": {"threshold": 0.9}}
    data = prepare(rows, held_out={"test": test}, cleaning=cleaning)
    assert data.report["cleaning"]["train"] == {
        "read": 6,
        "edited": 1,
        "dropped": {"duplicate": 1, "empty": 1, "nearDuplicate": 1},
        "redacted": {},
    }
    assert (len(data.train), len(data.test)) == (3, 1), "what is like a test text leaves the training data"
    assert "cleaning train: 6 rows read; 1 dropped (duplicate); 1 dropped (empty)" in "\n".join(summary(data.report))
    assert reported_data(data.report)["dropped"] == {"duplicate": 1, "empty": 1, "nearDuplicate": 1}
    with pytest.raises(DataError, match=r"line 5: column 'text' is empty; .* dataset\.cleaning\.empty to Drop"):
        prepare(rows)


def test_copies_join_the_training_data_alone(prepare: Any, tmp_path: Path) -> None:
    table = write_jsonl(tmp_path / "synonyms.jsonl", [{"word": "parcel", "synonym": "package"}])
    synonyms = {"synonyms": {"source": f"file://{table}", "share": 0.5}}
    data = prepare(ROWS, split={"test": 0.25, "stratifyBy": "label"}, augmentation={"text": synonyms})
    copies = data.report["augmented"]
    assert copies == sum("parcel" in row["text"] for row in ROWS) - (1 if len(data.test) > 1 else 0)
    assert len(data.train) == 2 + copies
    table.write_text(table.read_text().replace("package", "box"))
    other = prepare(ROWS, split={"test": 0.25, "stratifyBy": "label"}, augmentation={"text": synonyms})
    assert other.fingerprint != data.fingerprint, "another table is other data"


@pytest.mark.parametrize("over_length", ["Drop", "Truncate"])
def test_every_row_is_counted_once(over_length: str, prepare: Any) -> None:
    """What was read is what is used and what each rule left out; altered copies come besides."""
    numbers = ("one", "two", "three", "four", "five", "six", "seven", "eight")
    rows = [
        {"text": text, "label": label, "customer": f"{label} {n // 3}"}
        for n, number in enumerate(numbers)
        for label, text in (("a", f"parcel {number} {number}"), ("b", f"{number} invoice of {number} {number}"))
    ]
    rows += [{**rows[3], "text": text} for text in (rows[0]["text"], "", LONG["text"], "my parcel a@b.de")]
    data = prepare(
        rows,
        held_out={"test": [{**rows[0], "text": "hello parcel"}, {**rows[1], "customer": "b 1"}]},
        cleaning={"empty": "Drop", "duplicates": "Drop", "nearDuplicates": {}, "redact": {"kinds": ["Email"]}},
        split={"validation": 0.3, "groupBy": "customer", "stratifyBy": "label"},
        augmentation={"text": {"swap": 0.9}},
        overLength=over_length,
    )
    parts, cleaning = data.report["parts"], data.report["cleaning"]
    cleaned = sum(source["read"] - sum(source["dropped"].values()) for source in cleaning.values())
    assert cleaning["train"]["read"] == len(rows)
    assert cleaned == sum(part["read"] for part in parts.values())
    for name, part in parts.items():
        copies = data.report["augmented"] if name == "train" else 0
        assert part["read"] + copies == part["kept"] + sum(part["dropped"].values()), name
        assert part["kept"] == len(getattr(data, name)) == sum(part["labels"].values())
    assert data.report["augmented"]
    assert parts["train"]["dropped"]["groupHeldOut"]


def test_a_copy_that_becomes_a_held_out_text_is_not_trained_on(prepare: Any, tmp_path: Path) -> None:
    table = write_jsonl(tmp_path / "synonyms.jsonl", [{"word": "card", "synonym": "account"}])
    synonyms = {"synonyms": {"source": f"file://{table}"}}
    test = {"test": [{"text": "my account was charged twice", "label": "billing"}]}
    assert prepare(ROWS, augmentation={"text": synonyms}).report["augmented"] == 1
    assert prepare(ROWS, held_out=test, augmentation={"text": synonyms}).report["augmented"] == 0


def test_a_copy_that_longer_synonyms_make_too_long_is_left_out(prepare: Any, tmp_path: Path) -> None:
    table = write_jsonl(tmp_path / "synonyms.jsonl", [{"word": "ten", "synonym": "one two three four"}])
    rows = [*ROWS, {"text": "one two three four five six seven eight nine ten", "label": "billing"}]
    synonyms = {"synonyms": {"source": f"file://{table}"}}
    train = prepare(rows, augmentation={"text": synonyms}).report["parts"]["train"]
    assert (train["kept"], train["dropped"]["overLength"]) == (5, 1)


def test_a_group_column_that_is_not_there_is_named(prepare: Any) -> None:
    with pytest.raises(DataError, match=r"no column 'customer'.*dataset\.split\.groupBy"):
        prepare(ROWS, split={"test": 0.4, "groupBy": "customer"})


def test_groups_of_held_out_files_are_not_trained_on(prepare: Any) -> None:
    def of(customer: str, *texts: str) -> list[dict[str, str]]:
        return [{"text": text, "label": "a" if "a" in text else "b", "customer": customer} for text in texts]

    split = {"validation": 0.3, "groupBy": "customer"}
    rows = [
        *of("one", "an apple", "an ant"),
        *of("two", "a bee", "bread"),
        *of("three", "an axe", "books", "box", "bus"),
    ]
    held_out = {"test": of("two", "butter", "a bat")}
    data = prepare(rows, split=split, held_out=held_out)
    assert len(data.test) == 2
    assert len(data.train) + len(data.validation) == 6, "those of customer two are gone"
    assert len(data.validation) == 2, "before the others were cut"
    train = data.report["parts"]["train"]
    assert (train["read"], train["kept"], train["dropped"]["groupHeldOut"]) == (6, 4, 2)
    with pytest.raises(DataError, match="every group is also in validation or test"):
        prepare(of("two", "a bee", "bread"), split=split, held_out=held_out)
    with pytest.raises(DataError, match=r"no column 'customer'.*dataset\.split\.groupBy"):
        prepare(rows, split=split, held_out={"test": ROWS[:1]})
