"""Small models that read pages of noise, every part of them with a say, for the tests of decoding."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from data_pipeline.batch import BatchSpec, MicroBatch, prompt_batch
from data_pipeline.tokenizer import Tokenizer, byte_tokenizer
from train.config import DecoderConfig, EncoderConfig, ModelConfig, ParallelConfig
from train.model.optical import OpticalModel, build

MODE = "64"
TILED = "64+32"  # an overview and tiles: pages of different shapes take different numbers of positions
LENGTH = 256


def configuration(**decoder: int | bool) -> ModelConfig:
    """Every part of the architecture, at toy size; of the decoder what is named is different."""
    encoder = EncoderConfig(
        image_size=64, patch=8, window_width=16, window_depth=1, window_heads=2, window_size=4, global_layers=[],
        window_mlp=16, neck_width=8, compressor_widths=[16, 16], global_depth=1, global_heads=2, global_mlp=16,
    )  # fmt: skip
    sizes = DecoderConfig(
        layers=3, width=32, heads=2, ffn=32, dense_layers=1, experts=4, experts_per_token=2, expert_ffn=16,
        shared_experts=1, vocab_size=272, max_length=LENGTH, aux_loss=0.0,
    )  # fmt: skip
    return replace(ModelConfig(), encoder=encoder, decoder=replace(sizes, **decoder), glyph_heads=False)


def reading_model(
    seed: int = 0, sizes: ParallelConfig | None = None, strength: float = 3.0, **decoder: int | bool
) -> OpticalModel:
    """A model whose text depends on the page: fresh weights, `strength` times as large; other values for what starts at
    zero. Equal for equal seeds, however it is split.
    """
    from tests.train.model.small_model import without_zeros

    model = build(configuration(**decoder), byte_tokenizer().image, sizes or ParallelConfig(), seed=seed)
    assert isinstance(model, OpticalModel)
    without_zeros(model)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(strength)
    return model


def spec(mode: str = MODE) -> BatchSpec:
    """What the models take."""
    return BatchSpec((mode,), patch=8, max_length=LENGTH)


def pages(count: int, first: int = 0) -> list[np.ndarray]:
    """Coarse random patterns, which even an untrained encoder tells apart; some wide, some tall."""
    shapes = [(64, 64), (64, 160), (200, 64)]
    found = []
    for index in range(first, first + count):
        height, width = shapes[index % len(shapes)]
        coarse = np.random.default_rng(index).integers(0, 256, (4, 4), dtype=np.uint8)
        rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
        found.append(coarse[rows][:, columns])
    return found


def batch_of(count: int, mode: str = MODE, first: int = 0, prompt: str = "read") -> MicroBatch:
    """Pages as `decode` takes them."""
    return prompt_batch(pages(count, first), prompt, byte_tokenizer(), spec(mode))


@torch.no_grad()
def as_trained(model: OpticalModel, batch: MicroBatch, later: torch.Tensor) -> list[torch.Tensor]:
    """Logits of each row after its prompt and after each of `later` [B, n], by the training forward on that row alone."""
    found = []
    lengths = (~batch.padding).sum(1)
    joint = model.embed(batch, model.encode(batch))
    more = model.decoder.embedding(input_ids=later, position_ids=later)  # [n, B, D]
    for row, length in enumerate(lengths.tolist()):
        whole = torch.cat([joint[:length, row], more[:, row]])[:, None]
        logits = model.decoder(
            None, None, None, decoder_input=whole, padding_mask=torch.zeros(1, len(whole)).bool()
        )
        found.append(logits[0, length - 1 :])
    return found


def joined(steps: Sequence[list[list[int]]]) -> list[list[int]]:
    """The ids of every row, of what `decode` made."""
    return [[token for part in row for token in part] for row in zip(*steps, strict=True)]


class Endless:
    """The byte tokenizer's vocabulary for texts that never end."""

    vocab_size, eos = byte_tokenizer().vocab_size, -1


def endless() -> Tokenizer:
    """`Endless`, as `decode` sees it."""
    return Endless()  # type: ignore[return-value]
