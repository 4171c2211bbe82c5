"""What the training loop asks of whatever spreads a model over processes."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from torch import Tensor, nn


class Strategy(Protocol):
    """Owns the optimizer, and knows where each weight lives. Every rank calls the same methods in the same order.

    Names are those of the parameters in the plain model, so what one strategy saved another can load.
    """

    model: Any
    """A training step's forward pass goes through it."""
    module: Any
    """An evaluation's forward pass goes through it."""
    sharded: bool
    """Whether `weights` and `optimizer_state` give each rank a share; else every rank all of them."""

    def warm_up(self, objective: Callable[[], Tensor]) -> None:
        """Settles what the first passes settle, and a resumed run must find settled; `objective` makes one, of 0."""

    def micro_batch(self, last: bool) -> AbstractContextManager[Any]:
        """Around forward and backward of one micro-batch; the `last` of a step brings the gradients together."""

    def backward(self, objective: Tensor) -> None:
        """Adds the gradients of this micro-batch. They are averaged over the ranks."""

    def step(self, rate: float) -> Tensor:
        """Clips the gradients and changes the weights; returns the norm before clipping, the same on every rank."""

    def clear_gradients(self) -> None:
        """They are used up."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every trained parameter, whole."""

    def weights(self) -> dict[str, Tensor]:
        """The trained weights, whole and in float32: all of them, or this rank's share."""

    def consolidated(self) -> dict[str, Tensor]:
        """All trained weights on rank 0, for the export; other ranks may get none."""

    def optimizer_state(self) -> dict[str, Tensor]:
        """`PARAMETER/exp_avg` and so on, likewise; empty before the first step."""

    def loss_scaling(self) -> dict[str, Any]:
        """JSON: `scale`, what the loss is multiplied by in Float16, and how it will change; empty without."""

    def load_loss_scaling(self, saved: dict[str, Any]) -> None:
        """Takes back what `loss_scaling` gave."""

    def share(self, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What `weights` gives, out of saved weights that are all there."""

    def load_share(self, share: Mapping[str, Tensor]) -> None:
        """Takes back what `weights` gave on each rank."""

    def load_weights(self, saved: Mapping[str, Tensor]) -> None:
        """Takes saved weights, all of them, as any strategy on any number of ranks gave them.

        Raises:
            ValueError: They are of another model.
        """

    def load_optimizer_state(self, saved: Mapping[str, Tensor]) -> None:
        """Takes the whole optimizer state, likewise."""


def check_names(expected: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Refuses weights of another model.

    Raises:
        ValueError: Names differ.
    """
    strangers = set(expected) ^ set(saved)
    if strangers:
        raise ValueError(f"the saved weights do not fit the model: {sorted(strangers)[:3]}")


def load_parameters(named: Mapping[str, nn.Parameter], saved: Mapping[str, Tensor]) -> None:
    """Copies whole weights into a plain model; the names must be the same.

    Raises:
        ValueError: They are of another model.
    """
    check_names(named, saved)
    for name, parameter in named.items():
        parameter.data.copy_(saved[name])
