"""The loss of a linear layer, piece by piece, is that of whole logits, and so are its gradients."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from finetune_trainer.models.linear_cross_entropy import LEAST, MOST, linear_cross_entropy_sum, positions_at_a_time

CLASSES = 2**20 // LEAST  # several pieces
POSITIONS = 2 * MOST + 7


def inputs(dtype: torch.dtype, bias: bool) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(POSITIONS, 8).to(dtype).requires_grad_()
    weight = torch.randn(CLASSES, 8).mul_(0.3).requires_grad_()
    return hidden, weight, torch.randn(CLASSES).requires_grad_() if bias else None, torch.randint(CLASSES, (POSITIONS,))


def gradients(loss: Tensor, *leaves: Tensor | None) -> list[Tensor]:
    return list(torch.autograd.grad(loss / 3, [leaf for leaf in leaves if leaf is not None]))


@pytest.mark.parametrize("bias", [False, True])
def test_loss_and_gradients_are_those_of_whole_logits(bias: bool) -> None:
    hidden, weight, offset, targets = inputs(torch.float32, bias)
    assert positions_at_a_time(CLASSES) < POSITIONS
    whole = functional.cross_entropy(functional.linear(hidden, weight, offset), targets, reduction="sum")
    pieces = linear_cross_entropy_sum(hidden, weight, offset, targets)
    torch.testing.assert_close(pieces, whole, rtol=1e-5, atol=0)
    for ours, theirs in zip(
        gradients(pieces, hidden, weight, offset), gradients(whole, hidden, weight, offset), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_great_loss_is_exact_in_bfloat16_too() -> None:
    """Eight bits cannot hold a sum over thousands of positions."""
    hidden, weight, _, targets = inputs(torch.bfloat16, bias=False)
    exact = functional.cross_entropy(hidden.double() @ weight.to(torch.bfloat16).double().T, targets, reduction="sum")
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy_sum(hidden, weight, None, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-3)
    ours, theirs = gradients(loss, weight)[0], gradients(exact, weight)[0]
    assert ours.dtype == torch.float32
    assert (ours - theirs).norm() < 0.02 * theirs.norm()


def test_what_is_frozen_gets_no_gradient() -> None:
    hidden, weight, _, targets = inputs(torch.float32, bias=False)
    loss = linear_cross_entropy_sum(hidden, weight.detach(), None, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is not None
    assert weight.grad is None


@pytest.mark.parametrize(("classes", "positions"), [(100, MOST), (50_000, 671), (10_000_000, LEAST)])
def test_pieces_are_as_large_as_memory_allows(classes: int, positions: int) -> None:
    assert positions_at_a_time(classes) == positions
