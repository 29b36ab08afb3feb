"""First weights: reproducible, of the right size, identity blocks."""

import pytest
import torch

from train.model.initialise import deviation
from train.model.optical import build

pytestmark = pytest.mark.usefixtures("one_process")


def test_weights_are_a_function_of_the_seed_alone(small, image_token) -> None:
    torch.manual_seed(1)
    first = build(small, image_token, seed=1).state_dict()
    torch.manual_seed(2)
    again = build(small, image_token, seed=1).state_dict()
    other = build(small, image_token, seed=2).state_dict()
    for name, tensor in first.items():
        if isinstance(tensor, torch.Tensor):
            assert torch.equal(tensor, again[name]), name
            assert tensor.unique().numel() == 1 or not torch.equal(tensor, other[name]), name


def test_blocks_begin_as_the_identity(small, image_token, pages) -> None:
    model = build(small, image_token).eval()
    embedded = model.embed(pages, model.encode(pages))
    after = model.decoder.decoder(
        hidden_states=embedded, attention_mask=None, rotary_pos_emb=model.decoder.rotary_pos_emb(32)
    )
    torch.testing.assert_close(after, model.decoder.decoder.final_layernorm(embedded))
    block = model.encoder.window.blocks[0]
    features = torch.randn(2, 16, 16, small.encoder.window_width)
    assert torch.equal(block([features])[0], features)


def test_every_matrix_is_drawn_and_no_two_are_alike(small, image_token) -> None:
    model = build(small, image_token)
    means = [
        float(parameter.double().mean())
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1 and parameter.any()
    ]
    assert len(means) > 30 and len(set(means)) == len(means)


def test_the_width_of_deepseek_gets_its_published_spread() -> None:
    assert deviation(
        "decoder.decoder.layers.1.self_attention.linear_qkv.weight", (3840, 1280)
    ) == pytest.approx(0.02, rel=0.02)
