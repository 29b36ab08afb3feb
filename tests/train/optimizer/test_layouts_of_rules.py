"""Rules on whole matrices train the real model alike in every layout, and go on from their checkpoints to the last bit."""

from pathlib import Path
from typing import Any

import pytest
from layouts import build_pages
from ranks import free_ports, launch

from tests.train.optimizer.layout_ranks import LAYOUTS, RULES, descent, play

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    build_pages(folder)
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    (alone,) = launch(play, 1, {"one process": {}}, free_ports(1), folder, False)
    return {"alone": alone, "split": launch(play, 4, LAYOUTS, free_ports(len(LAYOUTS)), folder, True)}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_losses_are_those_of_one_process_and_resuming_is_exact(found: dict[str, Any], layout: str, rule: str) -> None:
    """fp32 sums in another order; Muon's bf16 products make more of it in matrices that few tokens reach."""
    expected, _ = found["alone"]["one process", rule]
    for losses, exact in (rank[layout, rule] for rank in found["split"]):
        assert losses == pytest.approx(expected, rel=2e-3 if rule == "muon" else 1e-4)
        assert exact
    assert expected[-1] < expected[0]


def test_steps_in_the_backward_are_gradient_descent_where_experts_are_spread_out(folder: Path) -> None:
    """Losses and norms: the latter count every weight once, experts too."""
    (expected,) = launch(descent, 1, {}, 1, "sgd", folder)
    for found in launch(descent, 4, {"expert": 2}, 4, "lomo", folder):
        for step, (loss, norm) in enumerate(found):
            assert (loss, norm) == (pytest.approx(expected[step][0], rel=1e-5), pytest.approx(expected[step][1], rel=1e-4))
