"""Notices a loss that has jumped up and does not come down again."""

from collections import deque
from statistics import median
from typing import Any

from finetune_api.optimization import LossSpike
from finetune_trainer.loop.watchdog import DivergedError

REMEMBERED = 20
"""Losses of log lines that the median is taken of; those of a spike are not among them."""
ENOUGH = 5
"""Losses before there is anything to compare with."""


class LossSpikeError(DivergedError):
    """The loss is many times what it was; going on would only waste time."""


class LossSpikeWatchdog:
    """Judges the mean loss of each log line, which is the same on every rank: all stop together."""

    def __init__(self, settings: LossSpike | None) -> None:
        self._settings = settings
        self._recent: deque[float] = deque(maxlen=REMEMBERED)
        self._spikes = 0

    def note(self, step: int, loss: float) -> None:
        """Takes in the loss of a log line.

        Raises:
            LossSpikeError: It was the last one that was tolerated.
        """
        if self._settings is None:
            return
        usual = median(self._recent) if len(self._recent) >= ENOUGH else None
        if usual is None or loss <= self._settings.factor * usual:
            self._recent.append(loss)
            self._spikes = 0
            return
        self._spikes += 1
        if self._spikes >= self._settings.patience:
            raise LossSpikeError(
                f"the loss is {loss:.4g} at step {step}, more than {self._settings.factor:g} times the usual "
                f"{usual:.4g}, for {self._spikes} log lines; lower training.learningRate, add training.warmup, or "
                "look for broken examples"
            )

    def counters(self) -> dict[str, Any]:
        """JSON for a checkpoint."""
        return {"recent": list(self._recent), "spikes": self._spikes}

    def restore(self, saved: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self._recent = deque(saved["recent"], maxlen=REMEMBERED)
        self._spikes = saved["spikes"]
