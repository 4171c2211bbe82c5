"""The metrics that gates go by are those of scikit-learn, whatever share of the data each rank saw."""

import math
import pickle
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from finetune_trainer.data.batches import Batch
from finetune_trainer.metrics.classification import ClassScores
from finetune_trainer.metrics.generation import TokenLoss

LABELS = ["a", "b", "c"]


def evaluate(logits: torch.Tensor, targets: torch.Tensor, ranks: int, labels: list[str]):
    """As `ranks` processes would: every one adds its own rows."""
    shares = []
    for rank in range(ranks):
        scores = ClassScores(labels)
        for rows in np.array_split(np.arange(rank, len(targets), ranks), 3):
            if len(rows):
                scores.add(logits[rows], Batch({}, torch.arange(len(rows)), targets[rows]), rows)
        shares.append(scores.share())
    return scores.result(shares)


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("classes", [2, 3])
def test_class_metrics_equal_scikit_learn(ranks: int, classes: int) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(50, classes), torch.randint(0, classes, (50,))
    found = evaluate(logits, targets, ranks, LABELS[:classes])
    predicted, probabilities = logits.argmax(1), logits.double().softmax(1)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(targets, predicted, average="macro")
    auc = (
        sk.roc_auc_score(targets, probabilities[:, 1])
        if classes == 2
        else sk.roc_auc_score(targets, probabilities, multi_class="ovr")
    )
    assert found.metrics == pytest.approx(
        {
            "accuracy": sk.accuracy_score(targets, predicted),
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "auc": auc,
            "loss": sk.log_loss(targets, probabilities),
        },
        abs=1e-6,
    )
    assert found.details["confusionMatrix"] == sk.confusion_matrix(targets, predicted).tolist()
    assert sum(row["examples"] for row in found.details["perClass"].values()) == 50


def test_no_auc_where_a_class_is_not_in_the_held_out_data() -> None:
    found = evaluate(torch.randn(4, 3), torch.tensor([0, 1, 0, 1]), 1, LABELS)
    assert "auc" not in found.metrics
    assert f"no example of {LABELS[2]};" in found.not_computed["auc"]
    assert all(map(math.isfinite, found.metrics.values()))


def test_a_rank_without_rows_changes_nothing() -> None:
    logits, targets = torch.randn(2, 3), torch.tensor([0, 1])
    assert evaluate(logits, targets, 3, LABELS).metrics == evaluate(logits, targets, 1, LABELS).metrics


def test_perplexity_is_over_all_tokens_not_over_batches() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(10, 7), torch.randint(0, 7, (10,))
    shares = []
    for part in ([0], list(range(1, 10))):
        scores = TokenLoss()
        scores.add(logits[part], Batch({}, torch.arange(len(part)), targets[part]), np.asarray(part))
        shares.append(scores.share())
    found = TokenLoss().result([*shares, TokenLoss().share()])
    loss = float(torch.nn.functional.cross_entropy(logits, targets))
    assert found.metrics == pytest.approx({"loss": loss, "perplexity": math.exp(loss)}, rel=1e-6)


@pytest.mark.parametrize("scores", [TokenLoss(), ClassScores(LABELS)], ids=["tokens", "classes"])
def test_an_evaluation_keeps_no_logits_of_the_batches_behind_it(scores: Any) -> None:
    """Those of a vocabulary, over all of the data, would take more memory than the model."""
    classes = len(LABELS) if isinstance(scores, ClassScores) else 30_000
    sizes = []
    for _ in range(3):
        logits = torch.randn(4, classes)
        kept = weakref.ref(logits)
        scores.add(logits, Batch({}, torch.arange(4), torch.zeros(4, dtype=torch.long)), np.arange(4))
        del logits
        assert classes == len(LABELS) or kept() is None
        sizes.append(len(pickle.dumps(scores.share())))
    assert max(sizes) < 2000
