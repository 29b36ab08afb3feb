"""The hand-written end of a low-rank product: the same numbers and gradients as torch's own operations."""

import pytest
import torch

from train.transform.stretched import Stretched, summed_products


def given(dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    """product [2, 5, 7], inner [2, 5, 3], b [7, 3], stretch [7]."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"product": (2, 5, 7), "inner": (2, 5, 3), "b": (7, 3), "stretch": (7,)}
    return {name: torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for name, shape in shapes.items()}


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("stretched", [False, True])
def test_values_and_gradients_are_those_of_torch(stretched: bool, again: bool) -> None:
    own, other = given(), given()
    stretch = own["stretch"] if stretched else None
    found = Stretched.apply(own["product"].clone(), own["inner"], own["b"], stretch, again)
    wanted = other["product"] + other["inner"] @ other["b"].t()
    wanted = wanted * other["stretch"] if stretched else wanted
    torch.testing.assert_close(found, wanted, rtol=1e-14, atol=1e-14)
    weights = torch.linspace(-1, 1, found.numel(), dtype=found.dtype).view_as(found)
    (found * weights).sum().backward()
    (wanted * weights).sum().backward()
    for name in own:
        if name != "stretch" or stretched:
            torch.testing.assert_close(own[name].grad, other[name].grad, rtol=1e-12, atol=1e-12)


def test_what_ranks_add_up_in_place_leaves_gradients_right() -> None:
    own, other = given(), given()
    found = Stretched.apply(own["product"].clone(), own["inner"], own["b"], own["stretch"], True)
    gradient = torch.ones_like(found)
    found.data.mul_(3)  # as an all-reduce does, unseen by autograd
    found.backward(gradient)
    ((other["product"] + other["inner"] @ other["b"].t()) * other["stretch"]).backward(gradient)
    torch.testing.assert_close(own["stretch"].grad, other["stretch"].grad, rtol=1e-12, atol=1e-12)


def test_a_row_that_is_stretched_to_nothing_has_finite_gradients() -> None:
    own = given()
    with torch.no_grad():
        own["stretch"][2] = 0
    Stretched.apply(own["product"].clone(), own["inner"], own["b"], own["stretch"], False).sum().backward()
    assert all(torch.isfinite(tensor.grad).all() for tensor in own.values() if tensor.grad is not None)
    assert own["stretch"].grad[2] == 0


def test_products_are_summed_in_parts_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.transform.stretched.PART", 64)
    first, second = torch.randn(2, 33, 20).to(torch.bfloat16)
    found = summed_products(first, second)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, (first.double() * second.double()).sum(0).float(), rtol=0.02, atol=0.05)
