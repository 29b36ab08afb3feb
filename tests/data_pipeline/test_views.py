import numpy as np
import pytest
from PIL import Image, ImageOps

from data_pipeline.record import BLANK
from data_pipeline.resolution import mode_of
from data_pipeline.views import placements, resample_glyphs, views

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
    small, large = views(page, mode_of("64")).overview, views(page, mode_of("704")).overview
    assert small.dtype == large.dtype == np.uint8
    assert np.array_equal(small, np.moveaxis(np.atleast_3d(resized), -1, 0) + np.zeros((3, 1, 1), np.uint8))
    assert np.array_equal(large, padded.transpose(2, 0, 1))


def test_a_page_of_the_view_s_size_is_not_touched_and_grey_costs_one_channel():
    page = np.random.default_rng(2).integers(0, 256, (128, 128), dtype=np.uint8)
    shown = views(page, mode_of("128")).overview
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
    if mode_of(str(size)).fit == "resize":
        shown = image.resize((size, size), Image.Resampling.NEAREST)
    else:
        shown = ImageOps.pad(image, (size, size), Image.Resampling.NEAREST, color=BLANK)
    cells = size  # a cell a pixel: its centre is what PIL's nearest samples
    assert np.array_equal(resample_glyphs(glyphs, cell, shape, placements(shape, mode_of(str(size)))[0], cells), np.asarray(shown))


def test_a_map_at_the_view_s_own_cells_is_not_changed():
    glyphs = np.random.default_rng(4).integers(0, 254, (32, 32), dtype=np.uint8)
    assert np.array_equal(resample_glyphs(glyphs, 4, (128, 128), placements((128, 128), mode_of("128"))[0], 32), glyphs)


def test_a_sliver_of_a_page_is_all_padding_or_shown_but_never_an_error():
    glyphs = np.ones((1, 250), np.uint8)
    found = resample_glyphs(glyphs, 4, (1, 1000), placements((1, 1000), mode_of("704"))[0], 64)
    assert found.shape == (64, 64)
    assert set(np.unique(found)) <= {BLANK, 1}


@pytest.mark.parametrize("shape", [(842, 595), (720, 1280), (100, 641), (1000, 3000)])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_are_cut_row_by_row_from_the_page_resized_to_the_grid(shape, channels):
    page = np.random.default_rng(5).integers(0, 256, (*shape, channels), dtype=np.uint8)
    page = page.squeeze(-1) if channels == 1 else page
    shown = views(page, mode_of("gundam"))
    columns, rows = shown.grid
    image = Image.fromarray(page).convert("RGB").resize((columns * 640, rows * 640))  # PIL's default is bicubic
    boxes = [(640 * i, 640 * j, 640 * (i + 1), 640 * (j + 1)) for j in range(rows) for i in range(columns)]
    for tile, box in zip(shown.tiles, boxes, strict=True):
        assert np.array_equal(tile, np.asarray(image.crop(box)).transpose(2, 0, 1))
    padded = ImageOps.pad(Image.fromarray(page).convert("RGB"), (1024, 1024), color=(127, 127, 127))
    assert np.array_equal(shown.overview, np.asarray(padded).transpose(2, 0, 1))


def test_a_page_no_larger_than_a_tile_is_not_cut():
    assert views(np.zeros((640, 640), np.uint8), mode_of("gundam")).tiles == ()


@pytest.mark.parametrize("shape", [(200, 130), (96, 300)])
def test_glyph_maps_of_tiles_are_what_nearest_resampling_of_the_page_shows(shape):
    mode, cell = mode_of("96+64"), 4
    glyphs = np.random.default_rng(6).integers(1, 254, (-(-shape[0] // cell), -(-shape[1] // cell)), dtype=np.uint8)
    drawn = np.kron(glyphs, np.ones((cell, cell), np.uint8))[: shape[0], : shape[1]]
    columns, rows = views(drawn, mode).grid
    whole = np.asarray(Image.fromarray(drawn).resize((columns * 64, rows * 64), Image.Resampling.NEAREST))
    for number, place in enumerate(placements(shape, mode)[1:]):
        row, column = divmod(number, columns)
        expected = whole[row * 64 : row * 64 + 64, column * 64 : column * 64 + 64]
        assert np.array_equal(resample_glyphs(glyphs, cell, shape, place, 64), expected)
