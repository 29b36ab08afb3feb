"""What the model's tests share: a grid of one process, small configurations, batches of noise."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from parallel import topology
from train.config import DecoderConfig, EncoderConfig, ModelConfig

IMAGE_TOKEN = 100  # of every test here


@pytest.fixture(scope="module")
def one_process() -> Iterator[None]:
    """Process groups of one process, as every model needs them."""
    topology.start(topology.Topology(), seed=0)
    yield
    topology.stop()


@pytest.fixture
def image_token() -> int:
    """Id of `<image>` in the batches of `pages`."""
    return IMAGE_TOKEN


@pytest.fixture
def small() -> ModelConfig:
    """All parts of the architecture at toy size: windows that need filling up, a global block, dense and
    mixture layers.
    """
    encoder = EncoderConfig(
        image_size=128,
        patch=8,
        window_width=32,
        window_depth=3,
        window_heads=2,
        window_size=6,
        global_layers=[1],
        window_mlp=64,
        neck_width=16,
        compressor_widths=[24, 48],
        global_depth=2,
        global_heads=4,
        global_mlp=96,
    )
    decoder = DecoderConfig(
        layers=3,
        width=64,
        heads=4,
        ffn=96,
        dense_layers=1,
        experts=8,
        experts_per_token=3,
        expert_ffn=32,
        shared_experts=2,
        vocab_size=128,
        max_length=256,
        aux_loss=0.01,
    )
    return replace(ModelConfig(), encoder=encoder, decoder=decoder, glyph_classes=12, glyph_heads=True)


@pytest.fixture
def pages() -> SimpleNamespace:
    """Two rows of 32 tokens, each with a page of 128 pixels; the last 6 positions of the second row are
    padding.
    """
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 99, (2, 32), generator=generator)
    tokens[:, 1:22] = IMAGE_TOKEN
    padding = torch.zeros(2, 32, dtype=torch.bool)
    padding[1, 26:] = True
    return SimpleNamespace(
        tokens=tokens,
        positions=torch.arange(32).expand(2, 32),
        padding=padding,
        views=torch.randint(0, 256, (2, 3, 128, 128), generator=generator, dtype=torch.uint8),
        view_of=torch.arange(2),
    )
