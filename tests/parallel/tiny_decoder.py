"""A small megatron-core GPTModel with experts, its batches, and a plain torch training loop to compare the engine with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

VOCABULARY, LENGTH, ROWS = 64, 16, 8
RATE, DECAY, CLIP = 2e-3, 0.1, 0.5


@dataclass
class Rows:
    """Token rows with a mask of the positions that count."""

    tokens: torch.Tensor
    mask: torch.Tensor

    def weights(self) -> dict[str, float]:
        """Positions that count."""
        return {"tokens": float(self.mask.sum())}

    def shape(self) -> tuple[int, int]:
        """Rows and their length, without the last token's label."""
        return len(self.tokens), self.tokens.shape[1] - 1


def build(
    seed: int = 0,
    width: int = 32,
    layers: int = 3,
    topology: Any = None,
    dtype: torch.dtype = torch.float32,
) -> torch.nn.Module:
    """One dense layer, then layers of 4 experts with 2 chosen; weights drawn from `seed` by parameter name order.

    This pipeline stage's part of it, which sends `dtype` to the next.
    """
    from megatron.core import parallel_state
    from megatron.core.models.gpt.gpt_model import GPTModel
    from megatron.core.transformer.transformer_config import TransformerConfig

    from parallel.layers import decoder_spec

    sizes = (
        {}
        if topology is None
        else {
            "tensor_model_parallel_size": topology.tensor,
            "expert_model_parallel_size": topology.expert,
            "expert_tensor_parallel_size": 1,
            "sequence_parallel": topology.tensor > 1,
            "pipeline_model_parallel_size": topology.pipeline,
            "pipeline_dtype": dtype,
        }
    )
    config = TransformerConfig(
        num_layers=layers, hidden_size=width, num_attention_heads=4, ffn_hidden_size=2 * width,
        num_moe_experts=4, moe_router_topk=2, moe_ffn_hidden_size=width, moe_layer_freq=[0] + [1] * (layers - 1),
        moe_token_dispatcher_type="alltoall", moe_router_load_balancing_type="seq_aux_loss", moe_aux_loss_coeff=0.05,
        moe_router_pre_softmax=True, moe_router_score_function="softmax", moe_router_dtype="fp32",
        normalization="RMSNorm", add_bias_linear=False, gated_linear_unit=True,
        activation_func=torch.nn.functional.silu, hidden_dropout=0.0, attention_dropout=0.0,
        use_cpu_initialization=True, gradient_accumulation_fusion=False, bias_dropout_fusion=False,
        bias_activation_fusion=False, **sizes,
    )  # fmt: skip
    model = GPTModel(
        config, decoder_spec(config), vocab_size=VOCABULARY, max_sequence_length=LENGTH,
        position_embedding_type="rope", share_embeddings_and_output_weights=False,
        pre_process=parallel_state.is_pipeline_first_stage(), post_process=parallel_state.is_pipeline_last_stage(),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for param in model.parameters():
            if param.ndim > 1:
                param.copy_(torch.randn(param.shape, generator=generator) * 0.1)
    return model


def global_batch(step: int) -> Rows:
    """Rows of one step; the number of positions that count differs from row to row, from 2 to all of them."""
    generator = torch.Generator().manual_seed(1000 + step)
    tokens = torch.randint(0, VOCABULARY, (ROWS, LENGTH + 1), generator=generator)
    counts = torch.randint(2, LENGTH + 1, (ROWS, 1), generator=generator)
    return Rows(tokens, torch.arange(LENGTH)[None] < counts)


def share(step: int, rank: int, world: int, micro_batches: int) -> list[Rows]:
    """This rank's micro-batches of a step: a contiguous block of the global batch."""
    rows = global_batch(step)
    tokens, mask = rows.tokens.chunk(world)[rank], rows.mask.chunk(world)[rank]
    return [Rows(t, m) for t, m in zip(tokens.chunk(micro_batches), mask.chunk(micro_batches))]


def objective(module: torch.nn.Module, batch: Rows, normalizers: Mapping[str, float]) -> Any:
    """Next-token cross-entropy over the positions that count."""
    from parallel.pipeline import StageOutput

    losses = module(
        batch.tokens[:, :-1], torch.arange(LENGTH)[None], None, labels=batch.tokens[:, 1:].contiguous()
    )
    if not module.post_process:  # the hidden states for the next stage
        return StageOutput(losses, losses.new_zeros(()), {"tokens": losses.new_zeros(())})
    total = (losses.float() * batch.mask).sum()
    return StageOutput(None, total / normalizers["tokens"], {"tokens": total})


def groups(module: torch.nn.Module) -> list[dict[str, Any]]:
    """Matrices decay, vectors do not and learn at half the rate: two groups, as real runs have."""
    params = list(module.parameters())
    return [
        {
            "params": [p for p in params if p.ndim > 1],
            "weight_decay": DECAY,
            "lr_scale": 1.0,
            "name": "decay",
        },
        {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0, "lr_scale": 0.5, "name": "plain"},
    ]


def adamw(parameter_groups: Sequence[dict[str, Any]], fused: bool = True) -> torch.optim.Optimizer:
    """AdamW whose eps keeps it from blowing up the rounding of gradients that are nearly zero."""
    return torch.optim.AdamW(list(parameter_groups), lr=RATE, betas=(0.9, 0.95), eps=1e-4, fused=fused)


def weights_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """fp32 copies of all parameters by name."""
    return {name: param.detach().float().clone() for name, param in module.named_parameters()}


def reference(
    steps: int, frozen: str | tuple[str, ...] = "?", layers: int = 3
) -> tuple[list[tuple[float, float]], dict[str, torch.Tensor]]:
    """((loss, gradient norm) of each step, final weights) of one process, one batch, torch's own optimizer and clipping."""
    from megatron.core.transformer.moe.moe_utils import MoEAuxLossAutoScaler

    module = build(layers=layers)
    for name, param in module.named_parameters():
        param.requires_grad_(not name.startswith(frozen))
    optimizer = adamw([{**g, "lr": RATE * g["lr_scale"]} for g in groups(module)], fused=False)
    MoEAuxLossAutoScaler.set_loss_scale(torch.ones(1))
    history = []
    for step in range(steps):
        batch = global_batch(step)
        loss = objective(module, batch, batch.weights()).loss
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_([p for p in module.parameters() if p.requires_grad], CLIP)
        optimizer.step()
        history.append((loss.item(), norm.item()))
    return history, weights_of(module)
