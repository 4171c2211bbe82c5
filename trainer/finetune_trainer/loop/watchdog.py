"""Notices the first step whose loss or gradient is not a number, without waiting for the device at each step."""

import torch
from torch import Tensor

from finetune_trainer.errors import ConfigurationError
from finetune_trainer.loop.process_group import sum_over_ranks

LEAST_LOSS_SCALE = 2.0**-14
"""Below it, even the smallest normal number of float16 would overflow: the gradients are not finite in themselves."""


class DivergedError(ConfigurationError):
    """The training went wrong by itself. The same job goes wrong again at the same step, so it is not restarted."""


class NotFiniteError(DivergedError):
    """The loss or a gradient became NaN or infinite; going on would only waste time."""


class FiniteWatchdog:
    """Remembers on the device when it went wrong; `check` asks, where the loop waits for the device anyway.

    The gradient norm is the same on every rank, the loss is not: `check` reduces, so all ranks stop together.
    """

    def __init__(self, device: torch.device, scaled: bool = False) -> None:
        self._scaled = scaled
        self._first_bad = torch.zeros((), dtype=torch.int64, device=device)

    def observe(self, step: int, loss: Tensor, gradient_norm: Tensor) -> None:
        """Step `step` (from 1) has a loss and a gradient.

        With loss scaling, gradients may overflow: the step is left out and the scale falls.
        """
        fine = torch.isfinite(loss)
        if not self._scaled:
            fine = fine & torch.isfinite(gradient_norm)
        self._first_bad = torch.where(fine | (self._first_bad > 0), self._first_bad, step)

    def check(self, loss_scale: float | None = None) -> None:
        """Every rank calls it at the same step.

        Raises:
            NotFiniteError: Names the step.
        """
        if loss_scale is not None and loss_scale < LEAST_LOSS_SCALE:
            raise NotFiniteError(
                f"the gradients overflow float16 whatever the loss is scaled by (now {loss_scale:.1e}); set "
                "training.precision to BFloat16 or Float32, or lower training.learningRate"
            )
        steps = sum_over_ranks((self._first_bad > 0).to(torch.int64))
        if int(steps) == 0:
            return
        own = int(self._first_bad)
        at = f"at step {own}" if own else "on another rank"
        raise NotFiniteError(
            f"the loss or its gradient is not a finite number since {at}; lower training.learningRate, add "
            "training.warmup, keep training.maxGradNorm above 0, or look for broken examples"
        )
