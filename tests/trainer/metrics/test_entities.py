"""Entity scores as seqeval counts them."""

import pytest

from finetune_trainer.metrics.entities import entity_metrics, spans


def test_the_example_of_seqeval() -> None:
    """The example of seqeval's README: f1 0.50, accuracy 0.80, MISC 0.00 and PER 1.00."""
    truth = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    found = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    evaluation = entity_metrics(truth, found, loss_sum=5.0)
    assert evaluation.metrics == pytest.approx(
        {"f1": 0.5, "precision": 0.5, "recall": 0.5, "accuracy": 0.8, "loss": 0.5}
    )
    assert evaluation.details["perType"]["MISC"]["f1"] == 0
    assert evaluation.details["perType"]["PER"] == {"f1": 1, "precision": 1, "recall": 1, "entities": 1}


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["B-A", "I-A", "O"], [(0, 2, "A")]),
        (["B-A", "B-A"], [(0, 1, "A"), (1, 2, "A")]),
        (["I-A", "I-B", "I-B"], [(0, 1, "A"), (1, 3, "B")]),
        (["O", "O"], []),
    ],
)
def test_spans(tags: list[str], expected: list[tuple[int, int, str]]) -> None:
    assert spans(tags) == expected


def test_nothing_found_is_no_error() -> None:
    assert entity_metrics([["B-A"]], [["O"]], 1.0).metrics["f1"] == 0
