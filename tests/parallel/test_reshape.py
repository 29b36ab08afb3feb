"""A run saved in any layout goes on in any other: the same losses, and every tensor bit for bit."""

import itertools
import os
from pathlib import Path

import pytest
import tiny_decoder as tiny
import torch
from ranks import free_ports, launch

from parallel.topology import Topology, environment, start, stop

STEPS, MIDDLE, FROZEN = 6, 3, "decoder.layers.0"
LAYOUTS = {
    "one": (Topology(), 1),
    "data": (Topology(data=2), 2),
    "tensor": (Topology(tensor=2), 1),
    "expert": (Topology(expert=2, data=2), 2),
    "data, ZeRO-3": (Topology(data=2), 3),
    "tensor expert": (Topology(tensor=2, expert=2, data=2), 1),
}
PAIRS = list(itertools.permutations(LAYOUTS, 2))


def build(topology, seed):
    """The decoder with a frozen layer, and a buffer that is saved."""
    from megatron.core.transformer.utils import make_sharded_tensor_for_checkpoint

    module = tiny.build(seed=seed, topology=topology)
    for name, param in module.named_parameters():
        param.requires_grad_(not name.startswith(FROZEN))
    module.register_buffer("seen", torch.zeros(3))
    described = module.sharded_state_dict
    module.sharded_state_dict = lambda: {
        **described(),
        "seen": make_sharded_tensor_for_checkpoint(module.seen, "seen"),
    }
    return module


def engine_of(topology, zero, seed=7):
    """An engine whose weights are not those of the run: loading nothing would show."""
    from parallel.engine import Engine, EngineOptions

    module = build(topology, seed)
    options = EngineOptions(zero, "fp32", tiny.CLIP)
    engine = Engine(module, tiny.groups(module), tiny.adamw, tiny.objective, topology, options)
    engine.set_learning_rate(tiny.RATE)
    return engine


def losses(engine, topology, first, last):
    """(loss, gradient norm) of each step."""
    rank = environment()[0] // topology.tensor
    outputs = [engine.train_step(tiny.share(step, rank, topology.data, 2)) for step in range(first, last)]
    return [(output.loss, output.grad_norm) for output in outputs]


def save_halfway(name, folder):
    """The first half of the run in one layout."""
    topology, zero = LAYOUTS[name]
    engine = engine_of(topology, zero)
    assert engine.load(folder / "initial") == (0, {})
    history = losses(engine, topology, 0, MIDDLE)
    engine.module.seen.fill_(MIDDLE)
    engine.save(folder / name, MIDDLE, {}, background=True)
    engine.module.seen.fill_(-1.0)
    engine.close()
    return history


def go_on(name, other, folder):
    """The second half in layout `name`, and what was saved again right after loading what `other` saved."""
    topology, zero = LAYOUTS[name]
    engine = engine_of(topology, {1: 2, 2: 1, 3: 3}[zero])
    assert engine.load(folder / other) == (MIDDLE, {})
    drawn = torch.rand(2)
    engine.save(folder / f"{other} at {name}", MIDDLE, {}, background=True)
    history = losses(engine, topology, MIDDLE, STEPS)
    engine.close()
    return history, drawn


VISITS = [("initial", "one"), *itertools.product(("save", "load"), LAYOUTS)]


def visit(folder, ports):
    """Ranks 0..3 form each layout's world in turn; those it has no use for wait at the next."""
    folder, rank = Path(folder), int(os.environ["RANK"])
    found = {}
    for (kind, name), port in zip(VISITS, ports, strict=True):
        topology = LAYOUTS[name][0]
        if rank >= topology.world:
            continue
        os.environ.update(WORLD_SIZE=str(topology.world), MASTER_PORT=str(port))
        start(topology, seed=1)
        if kind == "initial":
            engine = engine_of(topology, 1, seed=0)
            engine.save(folder / "initial", 0, {})
            engine.close()
            found["truth"] = tiny.reference(STEPS, FROZEN)[0]
        elif kind == "save":
            found[name] = save_halfway(name, folder)
        else:
            found |= {(other, name): go_on(name, other, folder) for other in LAYOUTS if other != name}
        stop()
    return found


@pytest.fixture(scope="module")
def visited(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layouts")
    return launch(visit, 4, str(folder), free_ports(len(VISITS))), folder


def tensors(root: Path) -> dict[str, torch.Tensor]:
    """All of the newest checkpoint but its random states and facts."""
    from parallel import checkpoint, pieces

    folder = checkpoint.folders(root)[0]
    values = {
        key: torch.empty(stored.size, dtype=stored.properties.dtype)
        for key, stored in pieces.contents(folder).items()
        if not key.startswith("random.") and key != checkpoint.EXTRA
    }
    pieces.read(folder, [pieces.Piece.whole(key, value) for key, value in values.items()], alone=True)
    return values


@pytest.mark.fault(
    "resume at another world size",
    injected="saved in one layout of tensor, pipeline, expert, data and ZeRO, resumed in another",
    handled="each rank reads its piece of every tensor, whoever wrote it",
    lost="nothing; numbers to rounding",
)
@pytest.mark.parametrize(("saved", "resumed"), PAIRS)
def test_a_run_goes_on_in_another_layout_as_if_nothing_had_been(visited, saved, resumed):
    ranks, folder = visited
    truth = ranks[0]["truth"]
    for rank in ranks[: LAYOUTS[resumed][0].world]:
        for (loss, norm), (true_loss, true_norm) in zip(rank[saved, resumed][0], truth[MIDDLE:], strict=True):
            assert loss == pytest.approx(true_loss, rel=1e-6)
            assert norm == pytest.approx(true_norm, rel=1e-5)
    before, after = tensors(folder / saved), tensors(folder / f"{saved} at {resumed}")
    assert before.keys() == after.keys()
    assert [key for key in before if not torch.equal(before[key], after[key])] == []


def test_what_is_compared_holds_moments_frozen_weights_and_buffers(visited):
    found = tensors(visited[1] / "one")
    assert (found["model.seen"] == MIDDLE).all()
    moments = [key for key in found if key.startswith(("optimizer.exp_avg.", "optimizer.exp_avg_sq."))]
    assert all(found[key].any() for key in moments)
    weights = [key for key in found if key.startswith("model.") and key != "model.seen"]
    frozen = [key for key in weights if f"model.{FROZEN}." in key]
    assert frozen and len(moments) == 2 * (len(weights) - len(frozen))


def test_in_another_layout_the_random_numbers_depend_on_seed_and_step_alone(visited):
    """Torch's own generator is the same on all ranks of a pipeline stage, so here all draws agree."""
    other = [pair for pair in PAIRS if LAYOUTS[pair[0]][0] != LAYOUTS[pair[1]][0]]
    draws = [rank[pair][1] for rank in visited[0] for pair in other if pair in rank]
    assert len(draws) > len(other) and all(torch.equal(draw, draws[0]) for draw in draws)
    again = torch.rand(2, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(draws[0], again), "not the numbers the run began with"
