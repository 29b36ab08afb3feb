"""First weights: a function of a seed and a parameter's name, the same however the model is split.

By default, linear layers and embeddings are normal with standard deviation sqrt(0.5 / inputs): 0.0198 at DeepSeek's
width of 1280, where the published value is 0.02, and in proportion at small widths, where 0.02 would leave
the signal too weak to learn from. Projections that are added to the residual stream start at zero, so that
each block begins as the identity: small models learn markedly faster so. Convolutions keep the variance of
their input. `InitConfig` has the other ways: a given spread, Kaiming's and Xavier's, and for what is added to the
residual stream a smaller spread by the number of layers or by the depth of each. Offsets of relative positions start at zero, norms at one, biases at zero.
"""

import math
import zlib
from collections.abc import Callable, Set

import torch
from megatron.core.dist_checkpointing.mapping import ShardedTensor, ShardedTensorFactory

from train.config import InitConfig, ModelConfig

SCALED, ANY = InitConfig(), ModelConfig()

# The last matrix of each residual branch; an expert's is described to checkpoints as `linear_fc2`.
RESIDUAL: tuple[str, ...] = (
    "attn.proj.weight",
    "lin2.weight",
    ".fc2.weight",
    "linear_proj.weight",
    "linear_fc2.weight",
    "linear_proj.wide.weight",
    "linear_fc2.wide.weight",
)

# Blocks by what their parameters' names begin with, before the block's number in the whole model: how many there are.
LAYERS: dict[str, Callable[[ModelConfig], int]] = {
    "decoder.decoder.layers.": lambda sizes: sizes.decoder.layers,
    "encoder.window.blocks.": lambda sizes: sizes.encoder.window_depth,
    "encoder.global.layers.": lambda sizes: sizes.encoder.global_depth,
}


def initialise(
    model: torch.nn.Module,
    seed: int,
    only: Set[torch.nn.Parameter] | None = None,
    init: InitConfig = SCALED,
    sizes: ModelConfig = ANY,
) -> None:
    """Fills every parameter, or those that were added (`only`), in place. Reads which part of which whole each tensor is
    from `model.sharded_state_dict()`. sizes: of the whole model, whose layers are counted.
    """
    with torch.no_grad():
        for entry in model.sharded_state_dict().values():  # type: ignore[operator]
            if only is not None and entry.data not in only:
                continue
            shards = entry.build() if isinstance(entry, ShardedTensorFactory) else entry
            for shard in shards if isinstance(shards, list) else [shards]:
                if isinstance(shard, ShardedTensor):
                    _fill(shard, deviation(shard.key, shard.global_shape, init, sizes), seed)


def _fill(shard: ShardedTensor, spread: float | None, seed: int) -> None:
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


def deviation(
    name: str, shape: tuple[int, ...], init: InitConfig = SCALED, sizes: ModelConfig = ANY
) -> float | None:
    """Standard deviation of the first values of a parameter of the model; None for a norm's scale, which
    is one.
    """
    if name.endswith((".bias", "adapter.up.weight")) or "rel_pos_" in name:
        return 0.0
    if name.endswith(RESIDUAL):
        factor = _of_residual(name, init, sizes)
        return factor and factor * _spread(name, shape, init)
    if "norm" in name:
        return None
    if name.endswith(("pos_embed", "position_embedding", "class_embedding")):
        return 0.02
    if name.endswith(("prompt.table", "prefix.table")):  # what encoders make a prompt or a prefix of
        return 1.0
    if name.endswith(("newline", "separator")):
        return 1 / math.sqrt(shape[-1])
    return _spread(name, shape, init)


def _spread(name: str, shape: tuple[int, ...], init: InitConfig) -> float:
    """Of a matrix [.., outputs, inputs], a kernel or an embedding."""
    is_kernel = len(shape) == 4 or ".convolutions." in name  # [outputs, inputs, height, width], [outputs, inputs, length]
    inputs, outputs = (math.prod(shape[1:]), shape[0] * math.prod(shape[2:])) if is_kernel else (shape[-1], shape[-2])
    if init.kind == "normal":
        return init.std
    if init.kind == "kaiming" and "embedding" not in name:
        return math.sqrt(2 / inputs)
    if init.kind == "xavier" and "embedding" not in name:
        return math.sqrt(2 / (inputs + outputs))
    return math.sqrt((1.0 if is_kernel else 0.5) / inputs)


def _of_residual(name: str, init: InitConfig, sizes: ModelConfig) -> float:
    """What the last matrix of a block is scaled by. A block adds twice to the residual stream."""
    part = next((part for part in LAYERS if name.startswith(part)), None)
    if part is None or init.residual in ("zero", "plain"):
        return float(init.residual != "zero")
    number = int(name.removeprefix(part).split(".", 1)[0])
    return 1 / math.sqrt(2 * (LAYERS[part](sizes) if init.residual == "scaled" else number + 1))
