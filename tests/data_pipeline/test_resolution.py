import subprocess
import sys

import pytest

from data_pipeline.errors import DataError
from data_pipeline.resolution import (
    MODES,
    RATIOS_TO_6,
    RATIOS_TO_9,
    WHOLE,
    grid_of,
    grid_side,
    laid_out,
    mode_of,
    most_positions,
    positions,
    token_side,
    valid_tokens,
    vision_tokens,
)

# Pages of the reference, (width, height): for at most 6 and at most 9 tiles the grid and the decoder positions,
# measured on the release's own code.
GUNDAM = {
    (595, 842): ((2, 3), 903, (2, 3), 903),
    (612, 792): ((2, 3), 903, (2, 3), 903),
    (640, 640): (WHOLE, 273, WHOLE, 273),
    (641, 100): ((6, 1), 883, (6, 1), 883),
    (1280, 720): ((2, 1), 483, (2, 1), 483),
    (1920, 1080): ((2, 1), 483, (4, 2), 1093),
    (1000, 1000): ((2, 2), 693, (2, 2), 693),
    (1250, 1000): ((3, 2), 893, (3, 2), 893),
    (3000, 1000): ((3, 1), 583, (3, 1), 583),
    (600, 6000): ((1, 6), 933, (1, 9), 1263),
}


@pytest.mark.parametrize(
    ("name", "size", "fit", "tokens", "places"),
    [
        ("tiny", 512, "resize", 64, 73),
        ("small", 640, "resize", 100, 111),
        ("base", 1024, "pad", 256, 273),
        ("large", 1280, "pad", 400, 421),
        ("gundam", 1024, "pad", 256, 273),
        ("gundam_m", 1280, "pad", 400, 421),
    ],
)
def test_modes_cost_what_the_paper_says(name, size, fit, tokens, places):
    mode = MODES[name]
    assert (mode.size, mode.fit) == (size, fit)
    assert mode_of(name) is mode
    assert vision_tokens(mode, 16) == tokens == token_side(size, 16) ** 2
    assert positions(mode, 16) == places
    assert grid_side(size, 16) == size // 16


@pytest.mark.parametrize("page", GUNDAM)
@pytest.mark.parametrize("most", [6, 9])
def test_gundam_cuts_pages_as_the_release_does(page, most):
    grid, places = GUNDAM[page][:2] if most == 6 else GUNDAM[page][2:]
    mode = mode_of(f"gundam/{most}")
    assert grid_of(*page, mode) == grid
    assert positions(mode, 16, grid) == places
    assert vision_tokens(mode, 16, grid) == 256 + 100 * grid[0] * grid[1]
    assert len(laid_out(mode, 16, grid, 0, 0, 0, 0)) == places


def test_gundam_m_costs_what_the_paper_says():
    mode = MODES["gundam_m"]
    assert grid_of(1024, 1024, mode) == WHOLE
    grid = grid_of(1700, 2200, mode)
    assert grid == (2, 3)
    columns, rows = grid
    assert vision_tokens(mode, 16, grid) == 256 * columns * rows + 400
    assert positions(mode, 16, grid) == 421 + rows * 16 * (columns * 16 + 1)


def test_the_lists_hold_every_grid_of_their_number_of_tiles_once():
    for most, ratios in ((6, RATIOS_TO_6), (9, RATIOS_TO_9)):
        every = {(i, j) for i in range(1, 10) for j in range(1, 10) if 2 <= i * j <= most}
        assert set(ratios) == every and len(ratios) == len(every)
        assert [i * j for i, j in ratios] == sorted(i * j for i, j in ratios)


def test_of_equally_near_grids_the_later_wins_where_the_page_fills_half_of_it():
    mode = mode_of("1024+640")
    assert grid_of(700, 700, mode) == (2, 2)  # as square as (3, 3), whose half it does not fill
    assert grid_of(1500, 1500, mode) == (3, 3)


def test_tokens_on_the_padding_do_not_count_as_valid():
    """Equation 1 of the paper; rounded down as the release's code does."""
    base = MODES["base"]
    assert valid_tokens(1024, 1024, base, 16) == 256
    assert valid_tokens(595, 842, base, 16) == int(256 * (1 - (842 - 595) / 842)) == 180
    assert valid_tokens(842, 595, base, 16) == 180
    assert valid_tokens(595, 842, MODES["small"], 16) == 100
    assert valid_tokens(595, 842, MODES["gundam"], 16) == 600 + 180


def test_modes_without_a_name_follow_the_same_rules():
    assert (mode_of("128").size, mode_of("128").fit, mode_of("128").sizes) == (128, "resize", (128,))
    assert (mode_of("768").fit, mode_of("768").grids) == ("pad", (WHOLE,))
    assert mode_of("640") is MODES["small"]
    tiled = mode_of("96+64/6")
    assert (tiled.size, tiled.tile, tiled.ratios, tiled.fit) == (96, 64, RATIOS_TO_6, "resize")
    assert mode_of("1024+640").ratios == MODES["gundam"].ratios
    assert most_positions([mode_of("64"), tiled], 8) == max(positions(tiled, 8, grid) for grid in RATIOS_TO_6)


@pytest.mark.parametrize("text", ["", "huge", "12x", "96+", "96+0", "64/6", "gundam/7", "gundam/", "-64", "+64"])
def test_what_is_no_mode_is_refused_with_the_choices(text):
    with pytest.raises(DataError, match="choose tiny, small, base, large, gundam, gundam_m, pixels"):
        mode_of(text)


@pytest.mark.parametrize("size", [100, 520, 0, -64])
def test_a_size_the_encoder_cannot_tile_names_the_nearest_one(size):
    nearest = {100: 128, 520: 512, 0: 64, -64: 64}[size]
    with pytest.raises(DataError, match=f"data.modes=..{nearest}"):
        grid_side(size, 16)


def test_resolution_needs_no_torch():
    code = "import sys, data_pipeline.resolution; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
