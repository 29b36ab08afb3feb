"""Windows and position tables of the windowed branch."""

import torch

from train.model.window import (
    from_windows,
    offset_vectors,
    offsets_by_products,
    stretched,
    stretched_by_products,
    to_windows,
)


def test_windows_cover_the_page_and_come_back() -> None:
    page = torch.arange(2 * 16 * 16 * 3, dtype=torch.float32).view(2, 16, 16, 3)
    for window, count in ((4, 16), (6, 9), (16, 1)):
        windows = to_windows(page, window)
        assert windows.shape == (2 * count, window, window, 3)
        assert torch.equal(from_windows(windows, window, page.shape), page)
    assert torch.equal(to_windows(page, 4)[1], page[0, :4, 4:8])


def test_what_fills_up_the_last_window_is_zero() -> None:
    windows = to_windows(torch.ones(1, 16, 16, 1), 6)
    assert windows.sum() == 16 * 16
    assert torch.equal(windows[2, :, 4:], torch.zeros(6, 2, 1))


def test_offset_vectors_are_left_alone_at_their_own_size_and_resized_at_others() -> None:
    table = torch.arange(7.0)[:, None]  # offsets -3..3
    assert offset_vectors(table, 4) is table
    resized = offset_vectors(table, 8)[:, 0]
    assert len(resized) == 15 and torch.allclose(resized, -resized.flip(0) + 6) and (resized.diff() >= 0).all()


def test_position_table_is_left_alone_at_its_own_size() -> None:
    table = torch.randn(1, 8, 8, 4)
    assert stretched(table, 8) is table
    assert stretched(table, 12).shape == (1, 12, 12, 4)


def test_products_give_what_interpolation_gives() -> None:
    table = torch.randn(1, 8, 8, 4, requires_grad=True)
    for grid in (4, 5, 12):
        torch.testing.assert_close(stretched_by_products(table, grid), stretched(table, grid))
    vectors = torch.randn(7, 3)
    for side in (2, 3, 8):
        torch.testing.assert_close(offsets_by_products(vectors, side), offset_vectors(vectors, side))
