"""A chain stands between a stored weight and its product: in the place that megatron-core leaves for it, exact over tensor ranks
to fp64's rounding, and free of cost where there is none.
"""

import inspect

import pytest
import transform_ranks
from ranks import launch

EXACT = 1e-12  # fp64: 1e-16 a product, over 30 steps of AdamW


@pytest.fixture(scope="module")
def alone():
    return launch(transform_ranks.learn_every_way, 1)[0]


@pytest.fixture(scope="module")
def together():
    return launch(transform_ranks.learn_every_way, 2)


@pytest.mark.parametrize("way", transform_ranks.WAYS)
def test_two_tensor_ranks_learn_what_one_process_learns(alone, together, way):
    for rank in together:
        assert rank[way]["losses"] == pytest.approx(alone[way]["losses"], abs=EXACT)
        assert rank[way]["losses"][-1] < 0.8 * rank[way]["losses"][0]
        for name, value in rank[way]["factors"].items():
            assert abs(value - alone[way]["factors"][name]).max() < EXACT, name


def test_megatron_core_still_multiplies_where_the_chain_stands():
    """An update that renames or inlines `_forward_impl` would leave every chain out, without a word."""
    from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear

    for layer in (ColumnParallelLinear, RowParallelLinear):
        parameters = inspect.signature(layer._forward_impl).parameters
        assert list(parameters)[:3] == ["self", "input", "weight"]
        assert "self._forward_impl(" in inspect.getsource(layer.forward)


def test_a_chain_is_part_of_every_product(alone):
    """Not only in a signature: with a chain that doubles weights each kind of layer gives twice as much."""
    assert alone["doubled"] == {name: pytest.approx(2.0, abs=EXACT) for name in transform_ranks.KINDS}


def test_a_layer_without_a_chain_calls_megatron_core_and_nothing_else(alone):
    assert alone["calls without a chain"] == ["multiply"]
