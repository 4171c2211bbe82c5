"""How close written texts are to the expected ones: ROUGE, BLEU and chrF, with the loss of the expected ones."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from finetune_trainer.data.batches import Batch
from finetune_trainer.metrics.generation import TokenLoss
from finetune_trainer.metrics.scores import Evaluation

SHOWN = 5
"""So many texts are shown in the report."""
ROUGE = ("rouge1", "rouge2", "rougeL")
Text = tuple[int, str, str]
"""Row, expected, written."""


class Words:
    """Words of any alphabet; rouge_score's own tokenizer knows a to z only."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"\w+", text.lower())


class WrittenTextScores:
    """Scores each text when it is written, and keeps sums, and the first few texts.

    Args:
        expected: The texts that belong to rows of the held-out data.
        decode: Token ids, (texts, longest), as texts.
    """

    def __init__(self, expected: Callable[[list[int]], list[str]], decode: Callable[[Tensor], list[str]]) -> None:
        self._expected, self._decode = expected, decode
        self._losses = TokenLoss()
        self._overlap = Overlap()
        self._shown: list[Text] = []

    def add(self, predictions: tuple[Tensor, Tensor], batch: Batch, rows: np.ndarray) -> None:
        """`predictions` are the logits of the expected tokens, and the tokens that the model writes."""
        logits, tokens = predictions
        self._losses.add(logits, batch, rows)
        places = [int(row) for row in rows]
        expected, written = self._expected(places), self._decode(tokens.cpu())
        self._overlap.add(expected, written)
        self._shown = sorted([*self._shown, *zip(places, expected, written, strict=True)])[:SHOWN]

    def share(self) -> tuple[Any, list[int], list[Text]]:
        return self._losses.share(), self._overlap.sums, self._shown

    def result(self, shares: list[Any]) -> Evaluation:
        loss = self._losses.result([share[0] for share in shares])
        overlap = Overlap([sum(each) for each in zip(*(share[1] for share in shares), strict=True)])
        shown = sorted(text for share in shares for text in share[2])[:SHOWN]
        samples = [{"expected": one, "written": other} for _, one, other in shown]
        metrics = {**overlap.metrics(), "loss": loss.metrics["loss"]}
        return Evaluation(metrics, {**loss.details, "texts": overlap.texts, "samples": samples})


class Overlap:
    """The counts that ROUGE, BLEU and chrF are made of; those of several ranks add up.

    sacrebleu's `corpus_score` counts likewise, sentence by sentence, and then looks at the sums; it has no name of its
    own for the two halves.
    """

    UNIT = 1 << 40
    """A ROUGE score is kept in parts of this, so that sums do not depend on their order."""

    def __init__(self, sums: list[int] | None = None) -> None:
        # Seconds to import, and only tasks that write need them.
        from rouge_score.rouge_scorer import RougeScorer
        from sacrebleu.metrics import BLEU, CHRF

        self._rouge = RougeScorer(list(ROUGE), tokenizer=Words())
        self._corpora = {"bleu": BLEU(force=True), "chrf": CHRF()}
        self.sums = sums or self._counted([""], [""], texts=0)
        """Texts, ROUGE scores, and the counts of each corpus metric."""

    @property
    def texts(self) -> int:
        return self.sums[0]

    def add(self, expected: list[str], written: list[str]) -> None:
        """Takes in texts, in pairs."""
        more = self._counted(expected, written, len(expected))
        self.sums = [a + b for a, b in zip(self.sums, more, strict=True)]

    def metrics(self) -> dict[str, float]:
        """ROUGE F1, mean over texts, and BLEU and chrF of the corpus; all from 0 to 1."""
        scores = [total / self.UNIT / max(1, self.texts) for total in self.sums[1 : 1 + len(ROUGE)]]
        found = dict(zip(ROUGE, scores, strict=True))
        start = 1 + len(ROUGE)
        for name, metric in self._corpora.items():
            end = start + len(self._statistics(name, [""], [""]))
            found[name] = float(metric._compute_score_from_stats(self.sums[start:end]).score) / 100
            start = end
        return found

    def _counted(self, expected: list[str], written: list[str], texts: int) -> list[int]:
        each = [self._rouge.score(one, other) for one, other in zip(expected, written, strict=True)]
        rouge = [sum(round(score[name].fmeasure * self.UNIT) for score in each) for name in ROUGE]
        return [
            texts,
            *rouge,
            *(count for name in self._corpora for count in self._statistics(name, expected, written)),
        ]

    def _statistics(self, name: str, expected: list[str], written: list[str]) -> list[int]:
        found = self._corpora[name]._extract_corpus_statistics(written, [expected])
        return [int(sum(each)) for each in zip(*found, strict=True)]
