"""megatron-core's own decoder layers with our norm, attention core, router and experts put in."""

from types import SimpleNamespace
from typing import Any

from megatron.core.models.gpt.gpt_layer_specs import get_gpt_decoder_block_spec
from megatron.core.transformer.moe.moe_layer import MoESubmodules
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
from megatron.core.transformer.transformer_config import TransformerConfig

from parallel.layers.activations import SwiGLU
from parallel.layers.attention import CausalAttentionCore
from parallel.layers.experts import Experts
from parallel.layers.factored import FactoredColumn, FactoredRow
from parallel.layers.linear import TransformableColumn, TransformableRow
from parallel.layers.mixture import MixtureOfExperts
from parallel.layers.norm import Norm
from parallel.layers.router import Router


def decoder_spec(config: TransformerConfig, vp_stage: int | None = None) -> TransformerBlockSubmodules:
    """The layers of this pipeline rank: dense first, then mixture-of-experts, as `config.moe_layer_freq`
    says.
    """
    spec = get_gpt_decoder_block_spec(config, use_transformer_engine=False, vp_stage=vp_stage)
    spec.layer_norm = Norm
    for layer in spec.layer_specs:
        layer.submodules.input_layernorm = layer.submodules.pre_mlp_layernorm = Norm
        attention = layer.submodules.self_attention.submodules
        attention.core_attention = CausalAttentionCore
        attention.linear_qkv, attention.linear_proj = _pair(getattr(config, "attention_rank", 0))
        mlp = layer.submodules.mlp  # a ModuleSpec in megatron-core 0.16, a functools.partial later
        parts = getattr(mlp, "submodules", None) or mlp.keywords["submodules"]
        if isinstance(parts, MoESubmodules):
            parts.experts, parts.router = Experts, Router
            _feed_forward(parts.shared_experts.submodules, config)
            # Not a ModuleSpec: of those megatron-core warns when it does not know the class.
            layer.submodules.mlp = SimpleNamespace(module=MixtureOfExperts, submodules=parts)
        else:
            _feed_forward(parts, config)
    return spec


def _feed_forward(parts: Any, config: TransformerConfig) -> None:
    """Our parts of a dense feed-forward."""
    parts.activation_func = SwiGLU
    parts.linear_fc1, parts.linear_fc2 = _pair(getattr(config, "ffn_rank", 0))


def _pair(rank: int) -> tuple[type, type]:
    """The kinds of two linear layers, one behind the other: whole ones, or of a `rank` (`FactoredConfig`)."""
    return (FactoredColumn, FactoredRow) if rank else (TransformableColumn, TransformableRow)
