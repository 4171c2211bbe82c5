"""How close written texts are to the expected ones: ROUGE, BLEU and chrF, with the loss of the expected ones."""

import re
from typing import Any

import numpy as np
from torch import Tensor

from finetune_trainer.data.batches import Batch
from finetune_trainer.metrics.generation import TokenLoss
from finetune_trainer.metrics.scores import Evaluation

SHOWN = 5
"""So many texts are shown in the report."""
Text = tuple[int, str, str]
"""Row, expected, written."""


class Words:
    """Words of any alphabet; rouge_score's own tokenizer knows a to z only."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"\w+", text.lower())


class WrittenTextScores:
    """Keeps the texts, and the sum of the losses."""

    def __init__(self, expected: list[str], tokenizer: Any) -> None:
        self._expected = expected
        self._tokenizer = tokenizer
        self._losses = TokenLoss()
        self._written: list[tuple[np.ndarray, Tensor]] = []

    def add(self, predictions: tuple[Tensor, Tensor], batch: Batch, rows: np.ndarray) -> None:
        """`predictions` are the logits of the expected tokens, and the tokens that the model writes."""
        logits, tokens = predictions
        self._losses.add(logits, batch, rows)
        self._written.append((rows, tokens))

    def share(self) -> tuple[Any, list[Text]]:
        texts: list[Text] = []
        for rows, tokens in self._written:
            written = self._tokenizer.batch_decode(tokens.cpu(), skip_special_tokens=True)
            texts += [(row, self._expected[row], text) for row, text in zip(rows.tolist(), written, strict=True)]
        return self._losses.share(), texts

    def result(self, shares: list[Any]) -> Evaluation:
        loss = self._losses.result([share[0] for share in shares])
        texts = sorted(text for share in shares for text in share[1])
        expected, written = [text[1] for text in texts], [text[2] for text in texts]
        metrics = {**overlap(expected, written), "loss": loss.metrics["loss"]}
        shown = [{"expected": one, "written": other} for _, one, other in texts[:SHOWN]]
        return Evaluation(metrics, {**loss.details, "texts": len(texts), "samples": shown})


def overlap(expected: list[str], written: list[str]) -> dict[str, float]:
    """ROUGE F1, mean over texts, and BLEU and chrF of the corpus; all from 0 to 1."""
    # Seconds to import, and only this task needs them.
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=Words())
    scores = [scorer.score(one, other) for one, other in zip(expected, written, strict=True)]
    rouge = {name: float(np.mean([score[name].fmeasure for score in scores])) for name in scorer.rouge_types}
    corpora = {"bleu": BLEU(), "chrf": CHRF()}
    return rouge | {name: metric.corpus_score(written, [expected]).score / 100 for name, metric in corpora.items()}
