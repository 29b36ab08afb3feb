"""The decoder: megatron-core's GPTModel in DeepSeek-MoE's shape (multi-head attention, RMSNorm, SwiGLU,
routed and shared experts).
"""

from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.models.gpt.gpt_model import GPTModel
from megatron.core.transformer.transformer_config import TransformerConfig

from parallel.layers import Asked, Embedding, FactoredConfig, Labelled, OutputLayer, decoder_spec
from train.config import DecoderConfig, ModelConfig, ParallelConfig
from train.model.placement import Part, parts

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

RECOMPUTE: dict[str, dict[str, Any]] = {
    "none": {},
    # The core attention keeps no L x L matrix as it is.
    "selective": {"recompute_granularity": "selective", "recompute_modules": ["mlp", "moe"]},
    "full": {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1},
}


def transformer_config(
    model: ModelConfig, sizes: ParallelConfig, precision: str = "fp32", recompute: str = "none"
) -> TransformerConfig:
    """megatron-core's description of the decoder; its parallel sizes, number format and recomputation hold for
    the whole model.

    precision: "fp32" or "bf16", the format of the weights. recompute: a key of RECOMPUTE. Raises ConfigError
    for layers that cannot be placed on the stages.
    """
    decoder, dtype = model.decoder, DTYPES[precision]
    return FactoredConfig(
        attention_rank=decoder.attention_rank,
        ffn_rank=decoder.ffn_rank,
        num_layers=decoder.layers,
        hidden_size=decoder.width,
        num_attention_heads=decoder.heads,
        kv_channels=decoder.head_width or decoder.width // decoder.heads,
        ffn_hidden_size=decoder.ffn,
        normalization="RMSNorm",
        layernorm_epsilon=decoder.norm_eps,
        gated_linear_unit=True,
        activation_func=F.silu,
        use_te_activation_func=True,  # megatron-core's name for: of the layer's spec, which is ours
        add_bias_linear=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        # The kernels behind these are CUDA extensions or torch.compile, and change no result.
        bias_dropout_fusion=False,
        bias_activation_fusion=False,
        masked_softmax_fusion=False,
        apply_rope_fusion=False,
        gradient_accumulation_fusion=False,
        deterministic_mode=torch.are_deterministic_algorithms_enabled(),
        params_dtype=dtype,
        pipeline_dtype=dtype,
        bf16=dtype is torch.bfloat16,
        # Weights are allocated on torch's current default device; `initialise` fills them.
        use_cpu_initialization=True,
        **_layout(sizes, decoder.layers),
        **_mixture_of_experts(decoder, communicating=max(sizes.tensor, sizes.expert, sizes.pipeline) > 1),
        **RECOMPUTE[recompute],
    )


def _layout(sizes: ParallelConfig, layers: int) -> dict[str, Any]:
    stages = [["decoder"] * part.layers for part in parts(sizes, layers)]
    # megatron-core wants these two words at the ends, wherever we really place embedding and logits.
    stages[0].insert(0, "embedding")
    stages[-1].append("loss")
    interleaved = sizes.virtual > 1
    return {
        "tensor_model_parallel_size": sizes.tensor,
        "sequence_parallel": sizes.sequence and sizes.tensor > 1,
        "expert_model_parallel_size": sizes.expert,
        "expert_tensor_parallel_size": 1,
        "pipeline_model_parallel_size": sizes.pipeline,
        "virtual_pipeline_model_parallel_size": sizes.virtual if interleaved else None,
        "pipeline_model_parallel_layout": stages if sizes.pipeline > 1 else None,
        # Each message is sent with its shape; the interleaved schedule agrees on one shape for all.
        "variable_seq_lengths": sizes.pipeline > 1 and not interleaved,
        # Batched messages are silently mixed up where a rank's neighbours on both sides are the same rank.
        "batch_p2p_comm": False,
        "overlap_p2p_comm": interleaved,
    }


def _mixture_of_experts(decoder: DecoderConfig, communicating: bool) -> dict[str, Any]:
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
    """megatron-core's language model, or the part of it that one pipeline piece holds, under the name `decoder`
    of the whole model.
    """

    @property
    def layers(self) -> torch.nn.ModuleList:
        """The transformer layers: megatron-core's schedules number micro-batches in `model.decoder.layers`."""
        return self.decoder.layers

    def setup_embeddings_and_output_layer(self) -> None:
        """Marks the matrices at both ends, as megatron-core's optimizer and norm want them marked.

        Its own version also sends the embedding to a tied output layer on another stage, and counts on the
        embedding being on the first one. Here both get the same values from `initialise`, as they have one key.
        """
        if self.pre_process:
            self.embedding.word_embeddings.__class__ = Embedding
            self.embedding.word_embeddings.weight.is_embedding_or_output_parameter = True
        if self.post_process and self.output_layer.weight is not None:
            self.output_layer.weight.is_embedding_or_output_parameter = True
        if self.post_process:
            self.output_layer.__class__ = OutputLayer  # megatron-core names the class it builds
        if not self.share_embeddings_and_output_weights:
            return
        if self.pre_process and self.post_process:
            # The output layer's own, too: ZeRO-3 gathers a weight for the layer that owns it.
            self.output_layer.weight = self.embedding.word_embeddings.weight
        elif self.pre_process or self.post_process:
            weight = self.shared_embedding_or_output_weight()
            weight.shared_embedding = True
            weight.shared = self.post_process  # counted once, on the embedding's stage

    def _preprocess(self, *, position_ids: torch.Tensor | None = None, **inputs: Any) -> tuple[Any, ...]:
        """megatron-core's inputs of the layers; with position_ids [B, L] the rotary angles [L, B, 1, R] are of these
        positions: they begin again with each sample of a row, and no angle is rounded otherwise than in a row of its own.
        """
        decoder_input, angles, *rest = super()._preprocess(position_ids=position_ids, **inputs)
        if position_ids is not None:
            angles = angles.squeeze(1)[position_ids.t()]
        return decoder_input, angles, *rest

    def _postprocess(
        self, hidden_states: torch.Tensor, labels: torch.Tensor | Asked | None = None, **options: Any
    ) -> torch.Tensor | Labelled:
        """megatron-core's logits [B, L, T]; with labels [B, L] the sum of their losses, in nats, or what else is asked."""
        if labels is None or not self.post_process:
            return super()._postprocess(hidden_states=hidden_states, labels=None, **options)
        tied = self.shared_embedding_or_output_weight() if self.share_embeddings_and_output_weights else None
        return self.output_layer(hidden_states, weight=tied, labels=labels)[0]

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: tuple = (), metadata: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """megatron-core's shards; a tied output layer has the key of the embedding, and on the same stage no
        entry of its own.
        """
        shards = super().sharded_state_dict(prefix, sharded_offsets, metadata)
        if self.share_embeddings_and_output_weights and self.pre_process:
            shards.pop(f"{prefix}output_layer.weight", None)
        return shards


def build_decoder(
    decoder: DecoderConfig, config: TransformerConfig, part: Part, vp_stage: int | None = None
) -> Decoder:
    """The language model, or `part` of it. vp_stage: number of the piece on its rank, where there are several."""
    return Decoder(
        config,
        decoder_spec(config, vp_stage),
        vocab_size=decoder.vocab_size,
        max_sequence_length=decoder.max_length,
        pre_process=part.embedding,
        post_process=part.head,
        position_embedding_type="rope",
        rotary_base=decoder.rope_theta,
        share_embeddings_and_output_weights=decoder.tied_embeddings,
        # Vision tokens are put among the embeddings before these are scattered.
        scatter_embedding_sequence_parallel=False,
        vp_stage=vp_stage,
    )
