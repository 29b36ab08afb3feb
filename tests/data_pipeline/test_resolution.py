import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

from data_pipeline.errors import DataError
from data_pipeline.record import BLANK
from data_pipeline.resolution import (
    MODES,
    grid_side,
    mode_for,
    resample_glyphs,
    sequence_length,
    token_side,
    view,
    vision_tokens,
)


@pytest.mark.parametrize(
    ("name", "size", "fit", "tokens", "positions"),
    [
        ("tiny", 512, "resize", 64, 73),
        ("small", 640, "resize", 100, 111),
        ("base", 1024, "pad", 256, 273),
        ("large", 1280, "pad", 400, 421),
    ],
)
def test_modes_cost_what_the_paper_says(name, size, fit, tokens, positions):
    assert (MODES[name].size, MODES[name].fit) == (size, fit)
    assert mode_for(size) is MODES[name]
    assert vision_tokens(size, 16) == tokens
    assert sequence_length(size, 16) == positions
    assert grid_side(size, 16) == size // 16
    assert token_side(size, 16) ** 2 == tokens


def test_sizes_without_a_name_follow_the_same_rule():
    assert (mode_for(128).size, mode_for(128).fit) == (128, "resize")
    assert (mode_for(768).size, mode_for(768).fit) == (768, "pad")
    assert (vision_tokens(128, 8), sequence_length(128, 8)) == (16, 21)


@pytest.mark.parametrize("size", [100, 520, 0, -64])
def test_a_size_the_encoder_cannot_tile_names_the_nearest_one(size):
    nearest = {100: 128, 520: 512, 0: 64, -64: 64}[size]
    with pytest.raises(DataError, match=f"data.image_size={nearest}"):
        grid_side(size, 16)


SHAPES = [(300, 200), (200, 300), (64, 64), (704, 704), (1025, 1024), (7, 1000), (1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_views_are_pil_s_own_pixels(shape, channels):
    page = (
        np.random.default_rng(1)
        .integers(0, 256, (*shape, channels), dtype=np.uint8)
        .squeeze(-1 if channels == 1 else ())
    )
    image = Image.fromarray(page)
    resized = np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC))
    padded = np.asarray(ImageOps.pad(image.convert("RGB"), (704, 704), color=(127, 127, 127)))
    small, large = view(page, mode_for(64)), view(page, mode_for(704))
    assert small.dtype == large.dtype == np.uint8
    assert np.array_equal(small, np.moveaxis(np.atleast_3d(resized), -1, 0) + np.zeros((3, 1, 1), np.uint8))
    assert np.array_equal(large, padded.transpose(2, 0, 1))


def test_a_page_of_the_view_s_size_is_not_touched_and_grey_costs_one_channel():
    page = np.random.default_rng(2).integers(0, 256, (128, 128), dtype=np.uint8)
    shown = view(page, mode_for(128))
    assert shown.shape == (3, 128, 128)
    assert shown.strides[0] == 0
    assert np.array_equal(shown[2], page)


@pytest.mark.parametrize("size", [128, 704])
@pytest.mark.parametrize("shape", [(256, 256), (200, 320), (320, 200), (421, 704), (704, 421)])
@pytest.mark.parametrize("cell", [4, 8])
def test_a_resampled_glyph_map_is_what_nearest_resampling_of_the_page_shows(size, shape, cell):
    rows, columns = -(-shape[0] // cell), -(-shape[1] // cell)
    glyphs = np.random.default_rng(3).integers(1, 254, (rows, columns), dtype=np.uint8)
    drawn = np.kron(glyphs, np.ones((cell, cell), np.uint8))[: shape[0], : shape[1]]
    image = Image.fromarray(drawn)
    if mode_for(size).fit == "resize":
        shown = image.resize((size, size), Image.Resampling.NEAREST)
    else:
        shown = ImageOps.pad(image, (size, size), Image.Resampling.NEAREST, color=BLANK)
    cells = size  # a cell a pixel: its centre is what PIL's nearest samples
    assert np.array_equal(resample_glyphs(glyphs, cell, shape, size, cells), np.asarray(shown))


def test_a_map_at_the_view_s_own_cells_is_not_changed():
    glyphs = np.random.default_rng(4).integers(0, 254, (32, 32), dtype=np.uint8)
    assert np.array_equal(resample_glyphs(glyphs, 4, (128, 128), 128, 32), glyphs)


def test_a_sliver_of_a_page_is_all_padding_or_shown_but_never_an_error():
    glyphs = np.ones((1, 250), np.uint8)
    found = resample_glyphs(glyphs, 4, (1, 1000), 704, 64)
    assert found.shape == (64, 64)
    assert set(np.unique(found)) <= {BLANK, 1}


def test_resolution_needs_no_torch():
    code = "import sys, data_pipeline.resolution; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
