"""The decoder: megatron-core's GPTModel in DeepSeek-MoE's shape (multi-head attention, RMSNorm, SwiGLU,
routed and shared experts).
"""

import torch
import torch.nn.functional as F
from megatron.core.models.gpt.gpt_model import GPTModel
from megatron.core.transformer.transformer_config import TransformerConfig

from parallel.layers import decoder_spec
from train.config import DecoderConfig, ModelConfig

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def transformer_config(
    model: ModelConfig, tensor: int = 1, expert: int = 1, precision: str = "fp32"
) -> TransformerConfig:
    """megatron-core's description of the decoder; its parallel sizes and number format hold for the whole
    model.

    tensor, expert: ways a matrix and the experts are split. precision: "fp32" or "bf16", the format of the
    weights.
    """
    decoder, dtype = model.decoder, DTYPES[precision]
    return TransformerConfig(
        num_layers=decoder.layers,
        hidden_size=decoder.width,
        num_attention_heads=decoder.heads,
        ffn_hidden_size=decoder.ffn,
        normalization="RMSNorm",
        layernorm_epsilon=decoder.norm_eps,
        gated_linear_unit=True,
        activation_func=F.silu,
        add_bias_linear=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        # The kernels behind these are CUDA extensions or torch.compile, and change no result.
        bias_dropout_fusion=False,
        bias_activation_fusion=False,
        masked_softmax_fusion=False,
        apply_rope_fusion=False,
        gradient_accumulation_fusion=False,
        params_dtype=dtype,
        pipeline_dtype=dtype,
        bf16=dtype is torch.bfloat16,
        # Weights are allocated on torch's current default device; `initialise` fills them.
        use_cpu_initialization=True,
        tensor_model_parallel_size=tensor,
        sequence_parallel=tensor > 1,
        expert_model_parallel_size=expert,
        expert_tensor_parallel_size=1,
        **_mixture_of_experts(decoder, communicating=tensor > 1 or expert > 1),
    )


def _mixture_of_experts(decoder: DecoderConfig, communicating: bool) -> dict[str, object]:
    return {
        "num_moe_experts": decoder.experts,
        "moe_layer_freq": [0] * decoder.dense_layers + [1] * (decoder.layers - decoder.dense_layers),
        "moe_ffn_hidden_size": decoder.expert_ffn,
        "moe_shared_expert_intermediate_size": decoder.shared_experts * decoder.expert_ffn or None,
        "moe_router_topk": decoder.experts_per_token,
        "moe_router_score_function": "softmax",
        # False would renormalise the weights of the chosen experts: another model
        "moe_router_pre_softmax": True,
        "moe_router_dtype": "fp32",
        "moe_router_load_balancing_type": "seq_aux_loss" if decoder.aux_loss else "none",
        "moe_aux_loss_coeff": decoder.aux_loss,
        "moe_token_dispatcher_type": "alltoall" if communicating else "allgather",
    }


class Decoder(GPTModel):
    """megatron-core's language model under the name `decoder` of the whole model."""

    @property
    def layers(self) -> torch.nn.ModuleList:
        """The transformer layers: megatron-core's schedules number micro-batches in `model.decoder.layers`."""
        return self.decoder.layers


def build_decoder(decoder: DecoderConfig, config: TransformerConfig) -> Decoder:
    """The language model; input and output embeddings are separate matrices."""
    return Decoder(
        config,
        decoder_spec(config),
        vocab_size=decoder.vocab_size,
        max_sequence_length=decoder.max_length,
        position_embedding_type="rope",
        rotary_base=decoder.rope_theta,
        share_embeddings_and_output_weights=False,
        # Vision tokens are put among the embeddings before these are scattered.
        scatter_embedding_sequence_parallel=False,
    )
