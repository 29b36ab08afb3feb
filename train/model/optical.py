"""The whole model: pages and text in, logits out.

Shapes: B rows, L positions, V views of a stack, S pixels a side, N vision tokens, D decoder width, T vocabulary (of this
tensor-parallel rank).
"""

import copy
from typing import Any, NamedTuple, Protocol

import torch
from megatron.core import parallel_state
from megatron.core.enums import ModelType
from megatron.core.tensor_parallel import scatter_to_sequence_parallel_region
from megatron.core.transformer.transformer_config import TransformerConfig

from data_pipeline.resolution import token_side
from parallel.layers import Asked, Chunks, Labelled, Module
from train.config import InitConfig, ModelConfig, ParallelConfig
from train.model.decoder import build_decoder, transformer_config
from train.model.deepencoder import DeepEncoder, Vision
from train.model.glyphs import GlyphHeads, Maps
from train.model.helpers import Helpers
from train.model.initialise import SCALED, initialise
from train.model.placement import Part, of_rank
from train.model.text_encoder import TextEncoder

ONE_PROCESS = ParallelConfig()


class Batch(Protocol):
    """What the model reads of `data_pipeline.batch.MicroBatch`."""

    tokens: torch.Tensor  # int64 [B, L]
    positions: torch.Tensor  # int64 [B, L]
    padding: torch.Tensor  # bool [B, L], True where there is no token
    labels: torch.Tensor  # int64 [B, L], the token that follows, NO_LABEL where no loss is wanted
    views: tuple[torch.Tensor, ...]  # stacks of one size each, uint8 [V, 3, S, S]
    layout: torch.Tensor  # int64, for each `<image>` token the row of `Vision.table` that stands there
    texts: torch.Tensor | None  # int64 [V of all stacks, T], what each view's page says, -1 beyond
    # Where samples share rows: `positions` begin again with each, and
    bounds: torch.Tensor | None  # int32 [S + 1] on the CPU, where each begins in the rows laid end to end
    samples: torch.Tensor | None  # int64 [B, L], the number of a position's sample, -1 for none


class ModelOutput(NamedTuple):
    """What a piece of the model makes of a micro-batch: what the next piece takes, or the logits of the next
    token at every position or their loss; and those of the glyph map where they were asked for and arise here.
    """

    hidden: torch.Tensor | None = None  # 3-D; [N, 1, C] before the embedding, [L / tensor, B, D] after it
    logits: torch.Tensor | None = None  # [B, L, T]
    patch_glyphs: Maps | None = None  # of each stack [V, G, G, classes]
    token_glyphs: Maps | None = None  # of each stack [V, G, G, classes]
    nats: torch.Tensor | None = None  # summed cross-entropy of the labelled positions, scalar
    labelled: Labelled | None = None  # what was asked of them beyond that
    vision: tuple[torch.Tensor, ...] | None = None  # vision tokens of each stack [V, F * F, D]


class OpticalModel(Module):
    """DeepEncoder and decoder joined: vision tokens take the place of the `<image>` tokens' embeddings. Or the
    `part` of that which one pipeline piece holds; it has no attribute for what it does not hold.

    Parts, by the prefix of their parameters: "encoder.window.", "encoder.compressor.", "encoder.global.",
    "encoder.projector.", "encoder.newline", "encoder.separator", "decoder.", and "glyph_heads." where
    `model.glyph_heads`.
    """

    def __init__(
        self,
        model: ModelConfig,
        transformer: TransformerConfig,
        image_token: int,
        part: Part,
        encoder_split: str = "auto",
        vp_stage: int | None = None,
    ) -> None:
        super().__init__(transformer)
        self.model_type = ModelType.encoder_or_decoder
        self.part, self.vp_stage = part, vp_stage
        self.pre_process, self.post_process = part.window, part.head
        self.share_embeddings_and_output_weights = model.decoder.tied_embeddings
        self.image_token, self.patch = image_token, model.encoder.patch
        self.received: torch.Tensor | None = None
        self.helpers: Helpers | None = None  # what one stage trains beside the model (train.model.helpers)
        self.prompt: Module | None = None  # gives the embeddings of the positions that samples reserve
        whole = copy.copy(transformer)  # the encoder's sequences are never split over ranks
        whole.sequence_parallel = False
        if encoder_split == "replicate":
            whole.tensor_model_parallel_size = 1
        sees = part.window or part.embedding
        if sees:
            self.encoder = encoder_of(model, whole, part)
        if part.decodes:
            self.decoder = build_decoder(model.decoder, transformer, part, vp_stage)
        self.glyph_heads = GlyphHeads(model, whole, part) if model.glyph_heads and sees else None

    def set_input_tensor(self, input_tensor: Any) -> None:
        """What the previous pipeline piece sent; megatron-core's schedules call this before each forward, on the
        first piece with None.
        """
        received = input_tensor[0] if isinstance(input_tensor, list) else input_tensor
        if self.part.window or self.part.embedding:
            self.received = received
        else:
            self.decoder.set_input_tensor(received)

    def forward(
        self,
        batch: Batch,
        with_glyphs: bool = False,
        with_nats: bool = False,
        asked: Asked | None = None,
        with_vision: bool = False,
    ) -> ModelOutput:
        """Logits at every position, or what the next piece takes; with `with_glyphs` (and heads in the model)
        the glyph maps of what is encoded here; with `with_nats` the loss in the place of the logits, in a fraction of
        their memory; or what is `asked` of the labelled positions, and with `with_vision` the vision tokens, both in the
        widths of a teacher where there are `helpers`.
        """
        part, glyphs, embedded_LBD, padding = self.part, (None, None), None, padding_or_members(batch)
        tokens = None
        if part.window or part.embedding:
            vision = self.encode(batch)
            if with_glyphs and self.glyph_heads is not None:
                glyphs = self.glyph_heads(vision)
            if not part.embedding:
                return ModelOutput(vision.features, None, *glyphs)
            embedded_LBD = self.embed(batch, vision)
            tokens = vision.tokens if with_vision else None
        if self.config.sequence_parallel:
            by_position = padding.transpose(0, 1).contiguous()
            padding = scatter_to_sequence_parallel_region(by_position).transpose(0, 1)
            if embedded_LBD is not None:
                embedded_LBD = scatter_to_sequence_parallel_region(embedded_LBD)
        labels = asked or (batch.labels if with_nats else None)
        positions = None if batch.bounds is None else batch.positions
        out = self.decoder(
            None, positions, batch.bounds, decoder_input=embedded_LBD, padding_mask=padding, labels=labels
        )
        if not part.head:
            return ModelOutput(out, None, *glyphs)
        if asked is not None:
            found = ModelOutput(None, None, *glyphs, labelled=out, vision=tokens)
            return found if self.helpers is None else self.helpers(found)
        return ModelOutput(None, None, *glyphs, out) if with_nats else ModelOutput(None, out, *glyphs)

    def encode(self, batch: Batch) -> Vision:
        """Pages -> vision tokens; pixels become (x / 255 - 0.5) / 0.5 in the weights' format. Where the windowed branch
        is on another stage, its features take the place of the pixels.
        """
        if isinstance(self.encoder, TextEncoder):
            return self._encode_texts(batch)
        if not self.part.window:
            return self.encoder(batch.views, self.received)
        return self.encoder([view.to(self.config.params_dtype).div_(127.5).sub_(1.0) for view in batch.views])

    def _encode_texts(self, batch: Batch) -> Vision:
        texts = batch.texts
        assert texts is not None, "a model that reads texts in place of pages needs BatchSpec.texts"
        known = texts.clamp(min=0)
        embedded_VTD = self.decoder.embedding(input_ids=known, position_ids=known).transpose(0, 1)
        stacks = [(len(views), token_side(views.shape[-1], self.patch) ** 2) for views in batch.views]
        return self.encoder(embedded_VTD, (texts >= 0).sum(1), stacks)

    def embed(self, batch: Batch, vision: Vision) -> torch.Tensor:
        """Embeddings [L, B, D] of a row's tokens, its vision tokens in place of its `<image>` tokens, a learned prompt in place
        of what each sample reserves for it.
        """
        embedded = self.decoder.embedding(input_ids=batch.tokens, position_ids=batch.positions).transpose(
            0, 1
        )
        assert vision.table is not None
        rows = vision.table.to(embedded.dtype).index_select(0, batch.layout)
        images = batch.tokens == self.image_token
        torch._assert_async(images.sum() == len(rows), "<image> tokens and vision tokens differ in number")
        # Where no token asks for them, in a text-only batch, the vision tokens get zero gradients, not
        # missing ones.
        joined = embedded.masked_scatter(images.unsqueeze(-1), rows)
        if self.prompt is not None:
            joined = self.prompt(joined, batch.positions)
        joined = joined.transpose(0, 1).contiguous()
        if self.config.recompute_granularity and torch.is_grad_enabled() and not joined.requires_grad:
            joined.requires_grad_()  # what is computed again gets gradients only through its input
        return joined


def padding_or_members(batch: Batch) -> torch.Tensor:
    """What the balance loss asks of each position: [B, L], whether it is padding; of rows that hold several samples
    [B, L, S], whether it belongs to sample s. S counts what fills up a row as well: the true number is on the device.
    """
    if batch.bounds is None or batch.samples is None:
        return batch.padding
    numbers = torch.arange(len(batch.bounds) - 1, device=batch.samples.device)
    return batch.samples.unsqueeze(-1) == numbers


def encoder_of(model: ModelConfig, config: TransformerConfig, part: Part) -> DeepEncoder | TextEncoder:
    """What turns pages into vision tokens, or `part` of it."""
    if model.encoder.kind == "optical":
        return DeepEncoder(model.encoder, model.decoder.width, config, part)
    return TextEncoder(model.encoder.kind, model.decoder.width, config)


def build(
    model: ModelConfig,
    image_token: int,
    sizes: ParallelConfig = ONE_PROCESS,
    *,
    precision: str = "fp32",
    recompute: str = "none",
    device: torch.device | str = "cpu",
    seed: int = 0,
    init: InitConfig = SCALED,
) -> OpticalModel | Chunks:
    """This rank's part of the model with fresh weights on `device` ("meta": shapes only); its parts, in `Chunks`,
    where `sizes.virtual` > 1. Process groups of these sizes must exist (`parallel.topology.start`).

    image_token: id of `<image>` in the tokenizer. recompute: which activations are computed again in backward,
    "none", "selective" (feed-forwards and experts) or "full" (whole blocks). The weights depend on `seed` and `init` alone,
    not on how they are split. Raises ConfigError for sizes that the model cannot be placed on.
    """
    transformer = transformer_config(model, sizes, precision, recompute)
    transformer.perform_initialization = torch.device(device).type != "meta"
    own = of_rank(sizes, model.decoder.layers, parallel_state.get_pipeline_model_parallel_rank())
    with torch.device(device):
        pieces = [
            OpticalModel(
                model, transformer, image_token, part, sizes.encoder, index if sizes.virtual > 1 else None
            )
            for index, part in enumerate(own)
        ]
    optical = Chunks(pieces) if sizes.virtual > 1 else pieces[0]
    if transformer.perform_initialization:
        initialise(optical, seed, init=init, sizes=model)
    return optical
