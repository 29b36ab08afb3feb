"""Two factors of a low rank: exact at full rank, as near as the theorem says below it, better for what pages are made of."""

import pytest
import torch

from tests.train.model.small_model import small_model
from tests.train.surgery.small import apart, outputs, random_weights
from train.surgery.config import FactorizeConfig
from train.surgery.factorize import factorize, factors

pytestmark = pytest.mark.usefixtures("one_process")


def test_at_full_rank_the_model_computes_the_same() -> None:
    model = small_model()
    weights = random_weights(model)
    found, after = factorize(weights, model, FactorizeConfig(attention=64, ffn=64), {})
    assert (after.decoder.attention_rank, after.decoder.ffn_rank) == (64, 64)
    assert apart(outputs(model, weights), outputs(after, found)) < 1e-5


def test_below_it_fewer_numbers_are_left() -> None:
    model = small_model()
    weights = random_weights(model)
    found, _ = factorize(weights, model, FactorizeConfig(ffn=16), {})
    stem = "decoder.decoder.layers.1.mlp.shared_experts.linear_fc1"
    assert found[f"{stem}.narrow.weight"].shape == (16, 64) and found[f"{stem}.wide.weight"].shape == (
        128,
        16,
    )
    assert f"{stem}.weight" not in found
    assert torch.equal(
        found["decoder.decoder.layers.1.mlp.experts.experts.linear_fc1.weight"],
        weights["decoder.decoder.layers.1.mlp.experts.experts.linear_fc1.weight"],
    )


@pytest.mark.parametrize("rank", [1, 5, 20])
def test_the_error_is_what_was_dropped_of_the_singular_values(rank: int) -> None:
    matrix = torch.randn(30, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wide, narrow = factors(matrix, rank)
    error = (matrix - wide @ narrow).square().sum().item()
    assert error == pytest.approx(
        torch.linalg.svdvals(matrix)[rank:].square().sum().item(), rel=1e-9, abs=1e-20
    )


def test_a_rank_above_the_matrix_is_filled_up_with_zeros() -> None:
    matrix = torch.randn(6, 20, dtype=torch.float64)
    wide, narrow = factors(matrix, 10)
    assert wide.shape == (6, 10) and not wide[:, 6:].any()
    torch.testing.assert_close(wide @ narrow, matrix)


def test_knowing_the_inputs_makes_the_outputs_nearer() -> None:
    """Inputs of very different sizes, a tenth of them never seen."""
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(40, 60, generator=generator, dtype=torch.float64)
    sizes = torch.logspace(-2, 1, 60, dtype=torch.float64)
    sizes[::10] = 0
    inputs = torch.randn(4000, 60, generator=generator, dtype=torch.float64) * sizes

    def error(power: torch.Tensor | None) -> float:
        wide, narrow = factors(matrix, 12, power)
        assert wide.isfinite().all() and narrow.isfinite().all()
        return (inputs @ (matrix - wide @ narrow).t()).square().mean().item()

    plain, aware = error(None), error(inputs.square().mean(0))
    assert aware < 0.2 * plain
