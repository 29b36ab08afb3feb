"""Two factors of a low rank: exact at full rank, as near as the theorem says below it, better for what pages are made of."""

from typing import Any

import pytest
import torch

from tests.train.model.small_model import IMAGE_TOKEN, small_model
from tests.train.surgery.small import apart, outputs, random_weights
from train.remake.weights import module_of
from train.surgery.calibration import look
from train.surgery.config import FactorizeConfig
from train.surgery.factorize import FACTORED, factorize, factors
from train.targets import targets_of
from train.transform.sites import sites

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


def test_knowing_the_inputs_the_error_of_the_outputs_is_what_the_theorem_says() -> None:
    """Inputs of very different strength, some in step with others, some never there: on these very inputs no rank-12 matrix has
    less error; the plain factors and those that scale inputs one by one (ASVD) have more.
    """
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(40, 60, generator=generator, dtype=torch.float64)
    sizes = torch.logspace(-2, 1, 60, dtype=torch.float64)
    sizes[::10] = 0
    mixed = torch.randn(60, 60, generator=generator, dtype=torch.float64) * 0.05 + torch.eye(
        60, dtype=torch.float64
    )
    mixed[::10] = 0
    inputs = (torch.randn(4000, 60, generator=generator, dtype=torch.float64) * sizes) @ mixed.t()
    products = inputs.t() @ inputs / len(inputs)

    def error(products: torch.Tensor | None) -> float:
        wide, narrow = factors(matrix, 12, products)
        assert wide.isfinite().all() and narrow.isfinite().all()
        return (inputs @ (matrix - wide @ narrow).t()).square().sum().item()

    least = torch.linalg.svdvals(matrix @ inputs.t())[12:].square().sum().item()
    assert error(products) == pytest.approx(least, rel=1e-6)
    assert error(products) < error(products.diagonal().diag()) < error(None)


def test_pages_make_the_outputs_of_a_models_matrices_nearer(peers: Any) -> None:
    """On the pages that were looked at, for every matrix of the decoder, seen by hooks of the test in transformers' model."""
    from tests.train.model.peer_model import IMAGE, page_batch, their_logits
    from train.convert.names import to_ours

    theirs, values, model = peers
    weights = to_ours(model, values)
    batch = page_batch(model, ["128", "96+64"], [(90, 200), (300, 200), (120, 120)], seed=1)
    products = look(module_of(model, weights, IMAGE), [batch], FACTORED).products()
    assert len(products) == 3 * 2 + 2 + 2 * 2
    layer, read = theirs.model.language_model.layers[1], []
    handle = layer.mlp.shared_experts.down_proj.register_forward_pre_hook(
        lambda _, args: read.append(args[0].flatten(0, -2))
    )
    with torch.no_grad():
        their_logits(theirs, batch)
    handle.remove()
    inputs = torch.cat(read)
    key = "decoder.decoder.layers.1.mlp.shared_experts.linear_fc2.weight"
    torch.testing.assert_close(products[key].float(), inputs.t() @ inputs / len(inputs), rtol=1e-4, atol=1e-6)
    errors = {}
    for name, known in (("pages", products[key]), ("weights", None)):
        wide, narrow = factors(weights[key], 8, known)
        errors[name] = (inputs @ (weights[key] - wide @ narrow).t()).square().sum().item()
    assert errors["pages"] < errors["weights"]


def test_both_factors_may_carry_transforms() -> None:
    """LoRA and quantization find them by the names and sizes that they are told (train/targets.py)."""
    model = small_model()
    found, after = factorize(random_weights(model), model, FactorizeConfig(attention=10, ffn=14), {})
    there = sites(module_of(after, found, IMAGE_TOKEN))
    factors_named = [target for target in targets_of(after) if target.name.endswith((".narrow", ".wide"))]
    assert len(factors_named) == 2 * (3 * 2 + 2 + 2 * 2)
    for target in factors_named:
        assert there[target.name].whole_shape == (target.outputs, target.inputs)
        assert (there[target.name].split or "") == target.split
