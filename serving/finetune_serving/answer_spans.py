"""The likeliest answers among the tokens of texts. Trainer and server share it."""

import torch
from torch import Tensor

from finetune_serving.windows import LONGEST_ANSWER


def likeliest_spans(logits: Tensor, within: Tensor, candidates: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """First and last token of the best answer of at most LONGEST_ANSWER tokens, (rows, 2), and its log-probability.

    Args:
        logits: (rows, tokens, 2), of its beginning and of its end.
        within: (rows, tokens), which tokens may be in an answer.
        candidates: (rows, tokens), what probabilities are of: `within`, unless it is more.

    Where nothing is within, the place is 0 and the log-probability minus infinity.
    """
    known = within if candidates is None else candidates
    likely = torch.log_softmax(logits.float().masked_fill(~known.unsqueeze(-1), -torch.inf), dim=1)
    starts, ends = (
        likely.nan_to_num(-torch.inf, neginf=-torch.inf).masked_fill(~within.unsqueeze(-1), -torch.inf).unbind(-1)
    )
    together = starts.unsqueeze(2) + ends.unsqueeze(1)
    allowed = torch.ones_like(together[0], dtype=torch.bool).triu().tril(LONGEST_ANSWER - 1)
    scores, best = together.masked_fill(~allowed, -torch.inf).flatten(1).max(dim=1)
    tokens = logits.shape[1]
    return torch.stack([best // tokens, best % tokens], dim=1), scores
