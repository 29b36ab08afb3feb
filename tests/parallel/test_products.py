"""Grouped products, by torch's kernel and in blocks, and the settings of the CPU that decide which."""

import pytest
import torch

from parallel import cpu_settings
from parallel.layers import products
from parallel.layers.products import Groups


@pytest.mark.parametrize("in_blocks", [False, True])
def test_each_group_has_its_own_matrix(in_blocks: bool, monkeypatch) -> None:
    monkeypatch.setattr(products, "_in_blocks", lambda *_: in_blocks)
    torch.manual_seed(0)
    sizes = torch.tensor([3, 0, 200, 64, 1])
    rows, matrices, right = torch.randn(268, 16), torch.randn(5, 16, 8), torch.randn(268, 8)
    groups = Groups(sizes)
    parts = rows.double().split(sizes.tolist())
    expected = torch.cat([part @ matrix.double() for part, matrix in zip(parts, matrices)])
    torch.testing.assert_close(groups.times(rows, matrices).double(), expected, rtol=0, atol=1e-4)
    outer = torch.stack([part.T @ other.double() for part, other in zip(parts, right.split(sizes.tolist()))])
    torch.testing.assert_close(groups.outer(rows, right).double(), outer, rtol=0, atol=1e-4)
    assert not groups.outer(rows, right)[1].any()


def test_products_of_fp32_stay_exact_whatever_the_settings_chose() -> None:
    before = cpu_settings._onednn().fp32_precision
    try:
        cpu_settings.apply()
        torch.manual_seed(0)
        first, second = torch.randn(300, 200), torch.randn(200, 100)
        error = (first @ second - first.double() @ second.double()).abs().max()
        assert error < 1e-4  # bf16 would be off by 0.1
        chosen = cpu_settings.by_onednn()
        with cpu_settings.products_of_any_shape():
            assert not cpu_settings.by_onednn()
        assert cpu_settings.by_onednn() == chosen
    finally:
        cpu_settings._onednn().fp32_precision = before
