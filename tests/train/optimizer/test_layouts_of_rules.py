"""Rules on whole matrices train the real model alike in every layout, and go on from their checkpoints to the last bit."""

from typing import Any

import pytest
from layouts import build_pages
from ranks import free_ports, launch

from tests.train.optimizer.layout_ranks import LAYOUTS, RULES, play

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("pages")
    build_pages(folder)
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
