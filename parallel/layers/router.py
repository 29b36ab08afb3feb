"""DeepSeek's router: softmax over all experts, the best k kept with their weights as they are, balance per
sequence.

Shapes: L length, B batch, E experts.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.transformer.moe.moe_utils import MoEAuxLossAutoScaler
from megatron.core.transformer.moe.router import TopKRouter
from megatron.core.transformer.transformer_config import TransformerConfig

from parallel.layers import tally


class Router(TopKRouter):
    """megatron-core's TopKRouter (weight, checkpoint, groups) with DeepSeek-V2's routing, in fp32.

    Its own sequence loss divides by the mean length of the rows when rows are padded;
    `sequence_balance_loss` divides by each row's. Raises ValueError for routing options that DeepSeek-OCR
    does not use.

    tally: what it does in training is added to this, while somebody looks (`tally.empty_tally`).
    """

    tally: torch.Tensor | None = None

    def __init__(
        self, config: TransformerConfig, pg_collection: ProcessGroupCollection | None = None
    ) -> None:
        super().__init__(config=config, pg_collection=pg_collection)
        wanted = {
            "moe_router_pre_softmax": True,
            "moe_router_score_function": "softmax",
            "moe_router_num_groups": None,
            "moe_router_enable_expert_bias": False,
            "moe_expert_capacity_factor": None,
            "moe_z_loss_coeff": None,
        }
        for option, value in wanted.items():
            if getattr(config, option) != value:
                raise ValueError(f"this router supports {option}={value}, not {getattr(config, option)}")

    def forward(
        self, x_LBD: torch.Tensor, padding_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """[L, B, D] -> weights [L*B, E] (zero where not chosen), chosen [L*B, E].

        padding_mask: what `sequence_balance_loss` calls padding.
        """
        scores = F.linear(x_LBD.float(), self.weight.float()).softmax(-1)
        best = scores.topk(self.topk, dim=-1).indices
        chosen = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, best, True)
        weights = scores * chosen
        coefficient, balance = self.get_aux_loss_coeff("seq_aux_loss"), None
        # True once in each step, also where it is computed again in backward
        learns = self.training and torch.is_grad_enabled()
        if coefficient and learns:
            balance = sequence_balance_loss(scores, chosen, padding_mask, self.topk, self.tp_cp_group)
            weights = MoEAuxLossAutoScaler.apply(weights, coefficient * balance)
        if self.tally is not None and learns:
            tally.add(self.tally, scores, chosen, padding_mask, balance, self.tp_cp_group.size())
        experts = scores.shape[-1]
        return weights.view(-1, experts), chosen.view(-1, experts)


def sequence_balance_loss(
    scores: torch.Tensor,
    chosen: torch.Tensor,
    padding: torch.Tensor | None,
    topk: int,
    group: dist.ProcessGroup | None = None,
) -> torch.Tensor:
    """DeepSeek's balance loss, 1.0 when perfectly balanced: mean over sequences of sum_e share(e) * mean
    score(e).

    scores, chosen: [L, B, E]; padding: [L, B], True for positions that count for nothing (a row of padding
    only counts 0). Where rows hold several samples, each of them is a sequence: padding is then [L, B, S], True where a
    position belongs to sample s (an s without positions is no sequence). share(e) = E / (k T) * tokens that chose e, with
    T the tokens of the sequence. `group`: the ranks that hold other positions of the same sequences; each contributes
    its own positions' scores. Source: DeepSeek-V2 `MoEGate`, seq_aux.
    """
    length, batch, experts = scores.shape
    sequences: int | torch.Tensor = batch
    if padding is None:
        counts, sums = chosen.sum(0), scores.sum(0)
        tokens = counts.new_full((batch,), length)
    elif padding.ndim == 3:
        members = padding.flatten(0, 1).t().to(scores.dtype)
        counts, sums = members @ chosen.flatten(0, 1).to(scores.dtype), members @ scores.flatten(0, 1)
        tokens = members.sum(1)
    else:
        valid = ~padding.unsqueeze(-1)
        counts, sums = (chosen & valid).sum(0), (scores * valid).sum(0)
        tokens = valid.squeeze(-1).sum(0)
    if group is not None and group.size() > 1:
        dist.all_reduce(counts, group=group)
        dist.all_reduce(tokens, group=group)
    if padding is not None and padding.ndim == 3:
        sequences = (tokens > 0).sum().clamp(min=1)
    tokens = tokens.clamp(min=1).unsqueeze(-1).to(scores.dtype)
    return (counts * sums / tokens.square()).sum() * (experts / (topk * sequences))
