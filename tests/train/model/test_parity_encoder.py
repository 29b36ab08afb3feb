"""DeepEncoder against transformers' `unlimited_ocr`: every way in which its position tables are stretched, and the layout
of tiles.
"""

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip(
    "transformers.models.unlimited_ocr", reason="transformers is absent: install the extra `dev`"
)

from data_pipeline.resolution import mode_of
from tests.train.model.peer_model import our_model, page_batch, peer_size, pixels, their_model, tolerance

pytestmark = pytest.mark.usefixtures("one_process")


@pytest.fixture(scope="module")
def models():
    """Theirs and ours with the same weights: made for 128 pixels, patches of 8, windows of 6 x 6 of the 16 x 16."""
    theirs = their_model(peer_size(), seed=11)
    return theirs, our_model(theirs)


@pytest.mark.parametrize(
    ("size", "case"),
    [
        (128, "native: tables as they are, windows filled up"),
        (64, "smaller: tables shrink"),
        (32, "a single vision token, a grid smaller than a window"),
        (96, "smaller, windows fit"),
        (160, "larger, windows filled up"),
        (192, "larger, windows fit"),
        (320, "two and a half times as large"),
    ],
)
def test_features_agree_at(size: int, case: str, models) -> None:
    """Both branches, joined and projected: what stands at each vision token."""
    theirs, ours = models
    views = torch.randint(
        0, 256, (2, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(size)
    )
    with torch.no_grad():
        found = ours.encode(SimpleNamespace(views=(views,))).tokens[0]
        seen = theirs.model.vision_tower(pixels(views)).last_hidden_state
        expected = theirs.model.multi_modal_projector(seen)
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance(expected))


@pytest.mark.parametrize(
    ("mode", "page", "grid"),
    [
        ("128+64", (400, 300), None),
        ("128+64", (200, 300), (2, 3)),
        ("64+96", (300, 200), (3, 2)),
        ("96+96", (120, 500), None),
        ("128+64", (64, 60), (0, 0)),
    ],
)
def test_tiles_overview_newlines_and_separator_stand_in_the_same_places(mode, page, grid, models) -> None:
    """Tiles first, put together to one grid with a newline after each of its rows; then the overview; the separator."""
    theirs, ours = models
    shown = page_batch(peer_size(), [mode], [page, (80, 50)], seed=4)
    (first, second), shape = shown.shown, mode_of(mode)
    assert first.grid == (grid or first.grid) and (grid == (0, 0)) == (first.grid == (0, 0))
    stacks = {stack.shape[-1]: pixels(stack) for stack in shown.views}
    tiles = first.tiles + second.tiles
    local = torch.stack([stacks[size][number] for size, number in tiles]) if tiles else None
    with torch.no_grad():
        found = ours.encode(shown).table[shown.layout]
        expected = theirs.model.get_image_features(
            torch.stack([stacks[shape.size][number] for _, number in (first.overview, second.overview)]),
            local,
            [len(first.tiles), len(second.tiles)],
            [list(first.grid), list(second.grid)],
            return_dict=True,
        ).pooler_output
    torch.testing.assert_close(
        found, torch.cat(list(expected)), rtol=0, atol=tolerance(torch.cat(list(expected)))
    )
