"""What is told of the model while it trains is what plain torch finds on one process, in every layout."""

from pathlib import Path
from typing import Any

import pytest

from tests.parallel import layouts
from tests.parallel.ranks import asked, free_ports, launch
from tests.train.observe import model_ranks
from tests.train.observe.model_ranks import CASES, SLOW

ALL = CASES | SLOW
EXACT, BF16 = 1e-6, 0.1  # relative


@pytest.fixture(scope="module")
def initial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """First weights of each variant, none of them zero."""
    from parallel.topology import Topology, start, stop

    folder = tmp_path_factory.mktemp("initial")
    start(Topology(), seed=0)
    for variant in {"dead", *(case.variant for case in CASES.values())}:
        layouts.make_initial(folder, variant)
    stop()
    return folder


@pytest.fixture(scope="module")
def truth(initial: Path) -> dict[str, list[dict[str, float]]]:
    """By variant."""
    from parallel.topology import Topology, start, stop

    start(Topology(), seed=0)
    found = {variant: model_ranks.truth(variant, initial) for variant in {case.variant for case in CASES.values()}}
    stop()
    return found


@pytest.fixture(scope="module")
def results(initial: Path, request: pytest.FixtureRequest) -> dict[str, list[dict[str, Any]]]:
    """Of each case what its ranks were told."""
    names, found = asked(request, test_what_is_told_is_what_plain_torch_finds), {}
    for world in (1, 2, 4):
        own = [name for name in names if ALL[name].world == world]
        if own:
            ranks = launch(model_ranks.play, world, own, free_ports(len(own)), str(initial))
            found |= {name: [rank[name] for rank in ranks] for name in own}
    return found


@pytest.mark.parametrize("name", [*CASES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_what_is_told_is_what_plain_torch_finds(
    results: dict[str, list[dict[str, Any]]], truth: dict[str, list[dict[str, float]]], name: str
) -> None:
    ranks, expected = results[name], truth[ALL[name].variant]
    assert {"loss/page", "loss/other", "loss_at/5-7", "loss_at/no_page", "expert_load/3", "balance_loss"} <= expected[0].keys()
    band = BF16 if name.startswith("bf16") else EXACT  # there routers choose other experts for some tokens
    for rank in ranks:
        for found, true in zip(rank["values"], expected, strict=True):
            assert found.keys() == true.keys()
            for key, value in true.items():
                assert found[key] == pytest.approx(value, rel=band), key


def test_an_expert_without_tokens_in_five_looks_is_dead_and_nothing_of_a_look_stays(initial: Path) -> None:
    import torch

    from parallel.layers import Router
    from parallel.topology import Topology, start, stop
    from train.observe.experts import WINDOW, Experts
    from train.observe.observer import Look

    start(Topology(), seed=0)
    case = layouts.Case(variant="dead")
    engine = layouts.engine_of(case, layouts.ready(case, initial))
    engine._objective = model_ranks.objective(strata=False)
    routers, used = [part for part in engine.module.modules() if isinstance(part, Router)], {}

    def note(router: Router, inputs: tuple[torch.Tensor, torch.Tensor], output: tuple[torch.Tensor, torch.Tensor]) -> None:
        layer, chosen = router.layer_number - 1, output[1][~inputs[1].flatten()].any(0)
        used[layer] = used.get(layer, False) | chosen

    hooks = [router.register_forward_hook(note) for router in routers]
    observer, told = Experts(engine.module, 2), []
    for step in range(1, 2 * WINDOW + 1):
        observer.before(step)
        assert (routers[0].tally is None) == (step % 2 == 1)
        if step % 2 == 0:
            engine.train_step([model_ranks.micro_batch(step, 0, packed=False, every_size=False)])
        told.append(observer.after(Look(step, [], None, 1.0, 0.0)))  # type: ignore[arg-type]
    for hook in hooks:
        hook.remove()
    dead = {f"expert_dead/{layer}": int((~chosen).sum()) for layer, chosen in used.items()}
    engine.close()
    stop()
    assert [bool(values) for values in told] == [False, True] * WINDOW
    assert {name: value for name, value in told[-1].items() if "dead" in name} == dead
    assert all(count > 0 for count in dead.values()) and not any("dead" in name for name in told[-3])
    assert all(router.tally is None for router in routers)


def test_an_optimizer_that_steps_in_the_backward_has_no_gradients_to_look_at_and_says_so_once() -> None:
    from types import SimpleNamespace

    import torch

    from train.config import LoggerConfig
    from train.observe.experts import Experts
    from train.observe.losses import Losses
    from train.observe.of_model import of_model
    from train.optimizer.lomo import Lomo

    module, said = torch.nn.Linear(1, 1), []
    module.config = SimpleNamespace(num_layers=1, num_moe_experts=None, moe_aux_loss_coeff=0.0)  # type: ignore[assignment]
    engine: Any = SimpleNamespace(module=module, optimizer=Lomo([{"params": [module.weight]}], 1.0))
    assert [type(one) for one in of_model(LoggerConfig(), engine, said.append)] == [Losses, Experts]
    assert len(said) == 1 and "gradient norms by group are left out" in said[0]
    assert of_model(LoggerConfig(details_every=0), engine, said.append) == []
