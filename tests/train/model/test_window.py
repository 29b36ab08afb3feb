"""Windows and position tables of the windowed branch."""

import torch

from train.model.window import from_windows, offset_vectors, stretched, to_windows


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


def test_offset_vectors_depend_on_the_distance_alone() -> None:
    table = torch.arange(7.0)[:, None]  # offsets -3..3
    vectors = offset_vectors(table, 4)[..., 0]
    for query in range(4):
        for key in range(4):
            assert vectors[query, key] == query - key + 3


def test_position_table_is_left_alone_at_its_own_size() -> None:
    table = torch.randn(1, 8, 8, 4)
    assert stretched(table, 8) is table
    assert stretched(table, 12).shape == (1, 12, 12, 4)
