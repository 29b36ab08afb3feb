"""The whole model against transformers' `unlimited_ocr`: logits, loss and the gradient of every parameter."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip(
    "transformers.models.unlimited_ocr", reason="transformers is absent: install the extra `dev`"
)

from tests.train.model.peer_model import (
    differences,
    exact_gradients,
    loss_of,
    our_logits,
    our_model,
    page_batch,
    peer_size,
    pixels,
    random_configuration,
    their_logits,
    their_model,
    tolerance,
)
from tests.train.model.small_model import gradient_pieces, noise_pages, text_only

pytestmark = pytest.mark.usefixtures("one_process")

SHAPES = [(90, 200), (300, 100), (64, 64), (260, 180)]  # of pages, width and height


@pytest.fixture(scope="module")
def models():
    """Theirs and ours with the same weights, and the sizes of both."""
    size = peer_size()
    theirs = their_model(size, seed=7)
    return theirs, our_model(theirs), size


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_random_configurations_agree_in_logits_loss_and_every_gradient(seed: int) -> None:
    """Pages whole and in tiles, in rows of several lengths. Each tensor's gradient in proportion to its largest entry, from theirs in fp64."""
    size = random_configuration(seed)
    theirs = their_model(size, seed)
    ours = our_model(theirs)
    unit, native = 4 * size.encoder.patch, size.encoder.image_size
    batch = page_batch(size, [str(native), f"{native + unit}+{native}"], SHAPES, seed)
    assert {bool(page.tiles) for page in batch.shown} == {True, False}

    logits, expected = our_logits(ours, batch), their_logits(theirs, batch)
    torch.testing.assert_close(logits, expected, rtol=0, atol=tolerance(expected))
    losses = loss_of(logits, batch), loss_of(expected, batch)
    torch.testing.assert_close(*losses, rtol=1e-6, atol=1e-6)
    losses[0].backward()
    relative = differences(gradient_pieces(ours), exact_gradients(theirs, batch, size))
    worst = max(relative, key=lambda key: relative[key])
    assert relative[worst] <= 1e-5, f"{worst}: {relative[worst]}"


def test_modes_mixed_in_one_batch_agree_with_each_page_alone(models) -> None:
    theirs, ours, size = models
    batch = page_batch(size, ["128", "64", "128+64", "96+64"], [*SHAPES, *SHAPES[::-1]], seed=5)
    assert len({(page.mode, page.grid) for page in batch.shown}) >= 5
    with torch.no_grad():
        expected = their_logits(theirs, batch)
        torch.testing.assert_close(our_logits(ours, batch), expected, rtol=0, atol=tolerance(expected))


def test_text_without_a_page_agrees(models) -> None:
    theirs, ours, _ = models
    batch = text_only(noise_pages())
    batch.padding[:] = False
    with torch.no_grad():
        expected = theirs(input_ids=batch.tokens).logits
        torch.testing.assert_close(ours(batch).logits, expected, rtol=0, atol=tolerance(expected))


def test_several_pages_in_one_row_agree(models) -> None:
    theirs, ours, size = models
    batch = page_batch(size, ["64"], [(50, 80), (70, 60)], seed=2)
    row = torch.cat([batch.tokens[0][~batch.padding[0]], batch.tokens[1][~batch.padding[1]]])[None]
    joined = replace(
        batch,
        tokens=row,
        positions=torch.arange(row.shape[1])[None],
        padding=torch.zeros(row.shape, dtype=torch.bool),
    )
    with torch.no_grad():
        expected = theirs(input_ids=row, pixel_values=pixels(batch.views[0])).logits
        torch.testing.assert_close(ours(joined).logits, expected, rtol=0, atol=tolerance(expected))


@pytest.mark.parametrize(
    "part",
    [
        "encoder.window.blocks.1.attn.rel_pos_h",
        "encoder.global.layers.1.fc1.weight",
        "encoder.separator",
        "encoder.newline",
        "decoder.decoder.layers.1.mlp.experts.fc1",
        "decoder.decoder.layers.1.mlp.experts.fc2",
        "decoder.decoder.layers.1.mlp.router.weight",
        "decoder.decoder.layers.1.mlp.shared_experts.linear_fc2.weight",
    ],
)
def test_the_comparison_would_notice_one_percent_in(part: str, models) -> None:
    """Agreement proves a part right only if that part moves the logits far beyond the tolerance."""
    _, ours, size = models
    batch, parameter = page_batch(size, ["128"], SHAPES[:2], seed=3), ours.get_parameter(part)
    with torch.no_grad():
        before, kept = our_logits(ours, batch), parameter.clone()
        parameter.mul_(1.01)
        moved = (our_logits(ours, batch) - before).abs().max()
        parameter.copy_(kept)
    assert moved > 30 * tolerance(before), moved
