"""The whole model: pages and text in, logits out.

Shapes: B rows, L positions, V views, S pixels a side, D decoder width, T vocabulary (of this
tensor-parallel rank).
"""

import copy
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from megatron.core.enums import ModelType
from megatron.core.inference.contexts import StaticInferenceContext
from megatron.core.tensor_parallel import scatter_to_sequence_parallel_region
from megatron.core.transformer.transformer_config import TransformerConfig

from parallel.layers import Module
from train.config import ModelConfig
from train.model.decoder import build_decoder, transformer_config
from train.model.deepencoder import DeepEncoder, Vision
from train.model.glyphs import GlyphHeads
from train.model.initialise import initialise


class Batch(Protocol):
    """What the model reads of `data_pipeline.batch.MicroBatch`."""

    tokens: torch.Tensor  # int64 [B, L]
    positions: torch.Tensor  # int64 [B, L]
    padding: torch.Tensor  # bool [B, L], True where there is no token
    views: torch.Tensor  # uint8 [V, 3, S, S]; in the order of the rows they belong to, those of no row last
    view_of: torch.Tensor  # int64 [V], the row of each view, -1 for none


@dataclass
class ModelOutput:
    """Logits of the next token at every position, and of the glyph map where it was asked for."""

    logits: torch.Tensor  # [B, L, T]
    patch_glyphs: torch.Tensor | None = None  # [V, G, G, classes]
    token_glyphs: torch.Tensor | None = None  # [V, G, G, classes]
    hidden: torch.Tensor | None = None  # what the next pipeline piece takes


class DecodingCache(StaticInferenceContext):
    """Keys and values of the positions decoded so far, for at most `rows` rows of `length` positions,
    prompt included.
    """

    def __init__(self, rows: int, length: int) -> None:
        super().__init__(max_batch_size=rows, max_sequence_length=length)

    def advance(self, positions: int) -> None:
        """Counts positions that the decoder has just stored."""
        self.sequence_len_offset += positions
        self.enable_decode_mode()


class OpticalModel(Module):
    """DeepEncoder and decoder joined: vision tokens take the place of the `<image>` tokens' embeddings.

    Parts, by the prefix of their parameters: "encoder.window.", "encoder.compressor.", "encoder.global.",
    "encoder.projector.", "encoder.newline", "encoder.separator", "decoder.", and "glyph_heads." where
    `model.glyph_heads`.
    """

    def __init__(self, model: ModelConfig, transformer: TransformerConfig, image_token: int) -> None:
        super().__init__(transformer)
        self.model_type = ModelType.encoder_or_decoder
        self.pre_process = self.post_process = True
        self.share_embeddings_and_output_weights = False
        self.image_token = image_token
        whole = copy.copy(transformer)  # the encoder's sequences are never split over ranks
        whole.sequence_parallel = False
        self.encoder = DeepEncoder(model.encoder, model.decoder.width, whole)
        self.decoder = build_decoder(model.decoder, transformer)
        self.glyph_heads = GlyphHeads(model, whole) if model.glyph_heads else None

    def set_input_tensor(self, input_tensor: Any) -> None:
        """Activations of the previous pipeline stage (megatron-core's schedules call this before each
        forward).
        """
        self.decoder.set_input_tensor(input_tensor)

    def forward(self, batch: Batch, with_glyphs: bool = False) -> ModelOutput:
        """Logits at every position; with `with_glyphs` (and heads in the model) those of the glyph map
        too.
        """
        vision = self.encode(batch.views)
        embedded_LBD, padding = self.embed(batch, vision), batch.padding
        if self.config.sequence_parallel:
            embedded_LBD = scatter_to_sequence_parallel_region(embedded_LBD)
            padding = scatter_to_sequence_parallel_region(padding.t().contiguous()).t()
        logits = self.decoder(None, None, None, decoder_input=embedded_LBD, padding_mask=padding)
        if not with_glyphs or self.glyph_heads is None:
            return ModelOutput(logits)
        return ModelOutput(logits, *self.glyph_heads(vision))

    def encode(self, views: torch.Tensor) -> Vision:
        """uint8 views [V, 3, S, S] -> vision tokens; pixels become (x / 255 - 0.5) / 0.5 in the weights'
        format.
        """
        pages = views.to(self.encoder.projector.weight.dtype).div_(127.5).sub_(1.0)
        return self.encoder(pages)

    def embed(self, batch: Batch, vision: Vision) -> torch.Tensor:
        """Embeddings [L, B, D] of a row's tokens, its vision tokens in place of its `<image>` tokens."""
        embedded = self.decoder.embedding(input_ids=batch.tokens, position_ids=batch.positions).transpose(
            0, 1
        )
        rows = self.encoder.layout(vision.tokens).to(embedded.dtype)
        images = batch.tokens == self.image_token
        places = (batch.view_of >= 0).sum() * rows.shape[1]
        torch._assert_async(images.sum() == places, "<image> tokens and vision tokens differ in number")
        # Where no token asks for them, in a text-only batch, the vision tokens get zero gradients, not
        # missing ones.
        return embedded.masked_scatter(images.unsqueeze(-1), rows).transpose(0, 1).contiguous()

    @torch.no_grad()
    def prefill(self, batch: Batch, cache: DecodingCache) -> torch.Tensor:
        """Reads prompts of equal length; next-token logits [B, vocabulary] after them. In evaluation mode
        only.
        """
        embedded_LBD = self.embed(batch, self.encode(batch.views))
        return self._decode(embedded_LBD, cache)

    @torch.no_grad()
    def decode_step(self, tokens: torch.Tensor, cache: DecodingCache) -> torch.Tensor:
        """Reads one more token of each row, int64 [B]; next-token logits [B, vocabulary]. In evaluation
        mode only.
        """
        embedded_1BD = self.decoder.embedding(input_ids=tokens.unsqueeze(1), position_ids=tokens.unsqueeze(1))
        return self._decode(embedded_1BD, cache)

    def _decode(self, embedded_LBD: torch.Tensor, cache: DecodingCache) -> torch.Tensor:
        if self.training:
            raise RuntimeError("decoding needs evaluation mode: call model.eval() first")
        positions, rows, _ = embedded_LBD.shape
        end = cache.sequence_len_offset + positions
        if end > cache.max_sequence_length or rows > cache.max_batch_size:
            raise ValueError(
                f"a cache for {cache.max_batch_size} rows of {cache.max_sequence_length} positions cannot "
                f"hold {rows} rows of {end}"
            )
        if self.config.sequence_parallel:
            embedded_LBD = scatter_to_sequence_parallel_region(embedded_LBD)
        logits = self.decoder(
            None, None, None, decoder_input=embedded_LBD, inference_context=cache, runtime_gather_output=True
        )
        cache.advance(positions)
        return logits[:, -1]


def build(
    model: ModelConfig,
    image_token: int,
    *,
    tensor: int = 1,
    expert: int = 1,
    precision: str = "fp32",
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> OpticalModel:
    """A model with fresh weights on `device` ("meta": shapes only). Process groups must exist
    (`parallel.topology.start`).

    image_token: id of `<image>` in the tokenizer. The weights depend on `seed` alone, not on how they are
    split.
    """
    transformer = transformer_config(model, tensor, expert, precision)
    transformer.perform_initialization = torch.device(device).type != "meta"
    with torch.device(device):
        optical = OpticalModel(model, transformer, image_token)
    if transformer.perform_initialization:
        initialise(optical, seed)
    return optical
