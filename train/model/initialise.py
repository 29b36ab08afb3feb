"""First weights: a function of a seed and a parameter's name, the same however the model is split.

Linear layers and embeddings are normal with standard deviation sqrt(0.5 / inputs): 0.0198 at DeepSeek's
width of 1280, where the published value is 0.02, and in proportion at small widths, where 0.02 would leave
the signal too weak to learn from. Projections that are added to the residual stream start at zero, so that
each block begins as the identity: small models learn markedly faster so. Convolutions keep the variance of
their input. Offsets of relative positions start at zero, norms at one, biases at zero.
"""

import math
import zlib
from collections.abc import Set

import torch
from megatron.core.dist_checkpointing.mapping import ShardedTensor, ShardedTensorFactory

# The last matrix of each residual branch; an expert's is described to checkpoints as `linear_fc2`.
RESIDUAL = (
    "attn.proj.weight",
    "lin2.weight",
    ".fc2.weight",
    "linear_proj.weight",
    "linear_fc2.weight",
    "adapter.up.weight",
)


def initialise(model: torch.nn.Module, seed: int, only: Set[torch.nn.Parameter] | None = None) -> None:
    """Fills every parameter, or those that were added (`only`), in place. Reads which part of which whole each tensor is
    from `model.sharded_state_dict()`.
    """
    with torch.no_grad():
        for entry in model.sharded_state_dict().values():  # type: ignore[operator]
            if only is not None and entry.data not in only:
                continue
            shards = entry.build() if isinstance(entry, ShardedTensorFactory) else entry
            for shard in shards if isinstance(shards, list) else [shards]:
                if isinstance(shard, ShardedTensor):
                    _fill(shard, seed)


def _fill(shard: ShardedTensor, seed: int) -> None:
    spread = deviation(shard.key, shard.global_shape)
    if spread is None:
        shard.data.fill_(1.0)
    elif spread == 0.0:
        shard.data.zero_()
    else:
        # One word of 32 bits: the CPU generator ignores the rest of a seed.
        generator = torch.Generator(shard.data.device).manual_seed(zlib.crc32(f"{seed} {shard.key}".encode()))
        whole = torch.empty(shard.global_shape, device=shard.data.device).normal_(
            0.0, spread, generator=generator
        )
        part = whole[shard.global_slice()]
        shard.data.copy_(part.reshape(shard.data.shape))


def deviation(name: str, shape: tuple[int, ...]) -> float | None:
    """Standard deviation of the first values of a parameter of the model; None for a norm's scale, which
    is one.
    """
    if name.endswith(".bias") or "rel_pos_" in name or name.endswith(RESIDUAL):
        return 0.0
    if "norm" in name:
        return None
    if name.endswith(("pos_embed", "position_embedding", "class_embedding")):
        return 0.02
    if name.endswith(("prompt.table", "prefix.table")):  # what encoders make a prompt or a prefix of
        return 1.0
    if name.endswith(("newline", "separator")):
        return 1 / math.sqrt(shape[-1])
    if len(shape) == 4 or ".convolutions." in name:  # [outputs, inputs, height, width], [outputs, inputs, length]
        return 1 / math.sqrt(math.prod(shape[1:]))
    return math.sqrt(0.5 / shape[-1])
