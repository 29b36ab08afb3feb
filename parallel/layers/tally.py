"""What a router did with the tokens that it was shown, added up on the device: for a look at how evenly experts are used.

Shapes: L length, B batch, E experts, S samples.
"""

import torch
from torch import Tensor

# The last numbers of a tally; those before say how many tokens chose each expert
TOKENS, ENTROPY, BALANCE, FORWARDS = range(-4, 0)


def empty_tally(experts: int, device: torch.device) -> Tensor:
    """fp64 [E + 4]: nothing seen yet. It is no buffer of a module, so that no checkpoint holds it."""
    return torch.zeros(experts + 4, dtype=torch.float64, device=device)


@torch.no_grad()
def add(tally: Tensor, scores: Tensor, chosen: Tensor, padding: Tensor | None, balance: Tensor | None, ranks: int) -> None:
    """Adds one forward. scores, chosen: [L, B, E]; padding, balance: as `router.sequence_balance_loss` takes and gives them; what
    is padding there is none of the tokens here. ranks: how many have parts of the same sequences, or all the same ones.
    """
    scores = scores.flatten(0, 1)
    entropies = torch.special.entr(scores).sum(1)
    chosen = chosen.flatten(0, 1)
    if padding is None:
        counts, entropy = chosen.sum(0), entropies.sum(dtype=torch.float64)
        tokens = counts.new_full((), len(scores))
    else:
        valid = (padding.any(-1) if padding.ndim == 3 else ~padding).flatten()
        counts, entropy = (chosen & valid.unsqueeze(1)).sum(0), (entropies * valid).sum(dtype=torch.float64)
        tokens = valid.sum()
    forwards = torch.full_like(entropy, 1 / ranks)
    balanced = torch.zeros_like(entropy) if balance is None else balance.detach().double()
    own = torch.stack([tokens.double(), entropy, balanced, forwards])
    tally[:-4] += counts
    tally[-4:] += own
