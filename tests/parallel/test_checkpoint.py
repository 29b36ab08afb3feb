import os
import pickle
from pathlib import Path

import pytest
import tiny_decoder as tiny
import torch
from ranks import launch

from parallel import checkpoint

STEPS = 6


def train(case, first, last, root=None, save_at=None, load=False):
    """Steps first..last on this rank: (losses and norms, final weights, random numbers drawn at the checkpoint)."""
    from parallel.engine import Engine, EngineOptions
    from parallel.topology import Topology, environment

    precision, frozen, stage = case
    rank, world, _ = environment()
    module = tiny.build(seed=7 if load else 0)  # other weights, so that loading nothing would show
    for name, param in module.named_parameters():
        param.requires_grad_(not name.startswith(frozen))
    options = EngineOptions(stage, precision, tiny.CLIP)
    engine = Engine(module, tiny.groups(module), tiny.adamw, tiny.objective, Topology(data=world), options)
    engine.set_learning_rate(tiny.RATE)
    if load:
        assert engine.load(root) == (first, {"cursor": first})
        drawn = torch.rand(4)
    outputs = [engine.train_step(tiny.share(step, rank, world, 2)) for step in range(first, last)]
    if not load:
        torch.rand(3)
    if save_at:
        engine.save(root, save_at, {"cursor": save_at}, keep=2)
        drawn = torch.rand(4)
    engine.close()
    return (
        [(o.loss, o.grad_norm) for o in outputs],
        tiny.weights_of(module),
        drawn if load or save_at else None,
    )


CASES = [("fp32", "embedding", 1), ("bf16", "?", 1), ("fp32", "?", 2)]


def through_and_saved(root):
    """In one start, for each case: trained to the end; and by another engine to the middle, and saved."""
    from parallel.topology import Topology, environment, start, stop

    start(Topology(data=environment()[1]), seed=1)
    results = []
    for index, case in enumerate(CASES):
        whole, weights, _ = train(case, 0, STEPS)
        drawn = train(case, 0, STEPS // 2, Path(root) / str(index), save_at=STEPS // 2)[2]
        results.append((whole, weights, drawn))
    stop()
    return results


def resumed(*roots):
    """In a new process, for each case of each root: loaded and trained to the end."""
    from parallel.topology import Topology, environment, start, stop

    start(Topology(data=environment()[1]), seed=2)
    results = [
        [
            train(case, STEPS // 2, STEPS, Path(root) / str(index), load=True)
            for index, case in enumerate(CASES)
        ]
        for root in roots
    ]
    stop()
    return results


def test_a_resumed_run_is_bit_equal_to_an_uninterrupted_one_and_may_change_its_size(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    through = {1: launch(through_and_saved, 1, one), 2: launch(through_and_saved, 2, two)}
    facts = checkpoint.facts(two / "2")  # without any process group in this process
    assert (facts["step"], facts["updates"], facts["extra"]) == (
        STEPS // 2,
        STEPS / 2,
        {"cursor": STEPS // 2},
    )
    assert (facts["topology"]["data"], facts["engine"]["zero"]) == (2, 2)
    own, other = launch(resumed, 1, one, two)[0]
    again = {1: [own], 2: [results[0] for results in launch(resumed, 2, two)]}
    for world in (1, 2):
        for rank in range(world):
            for case, whole, half in zip(CASES, through[world][rank], again[world][rank], strict=True):
                assert half[0] == whole[0][STEPS // 2 :], (world, case)
                assert all(torch.equal(half[1][name], whole[1][name]) for name in whole[1]), (world, case)
                assert torch.equal(half[2], whole[2]), f"{world} {case}: random states"
    for case, whole, half in zip(CASES, through[2][0], other, strict=True):  # written by two, resumed by one
        band = 1e-5 if case[0] == "fp32" else 2e-2
        assert torch.allclose(torch.tensor(half[0]), torch.tensor(whole[0][STEPS // 2 :]), rtol=band), case


@pytest.fixture(scope="module")
def alone():
    """This process as a world of one."""
    from parallel.topology import Topology, start, stop

    start(Topology(), seed=0)
    yield
    stop()


def save_three(root: Path, keep: int = 3) -> list[Path]:
    from parallel.pieces import Piece

    return [
        checkpoint.save(root, step, [Piece.whole("x", torch.full((1000,), float(step)))], {"step": step}, keep)
        for step in (1, 2, 3)
    ]


def load_x(root: Path) -> tuple[float, dict]:
    from parallel import pieces

    folder = checkpoint.newest(root)
    assert folder is not None
    x = torch.zeros(1000)
    pieces.read(folder, [pieces.Piece.whole("x", x)])
    assert (x == x[0]).all()
    return x[0].item(), checkpoint.facts(folder)


def damage_flip(folder: Path) -> str:
    data = bytearray((file := folder / "__0_0.distcp").read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    return "__0_0.distcp: checksum differs"


def damage_cut(folder: Path) -> str:
    os.truncate(folder / "__0_0.distcp", 100)
    return "__0_0.distcp: 100 bytes"


def damage_remove(folder: Path) -> str:
    (folder / "__0_0.distcp").unlink()
    return "__0_0.distcp: missing"


def damage_metadata(folder: Path) -> str:
    with (folder / ".metadata").open("r+b") as file:
        file.write(b"\x00")
    return ".metadata: checksum differs"


def damage_manifest(folder: Path) -> str:
    (folder / "manifest.json").write_text("{")
    return "manifest.json"


@pytest.mark.parametrize("damage", [damage_flip, damage_cut, damage_remove, damage_metadata, damage_manifest])
def test_a_damaged_checkpoint_is_named_and_the_previous_one_taken(alone, tmp_path, capsys, damage):
    complaint = damage(save_three(tmp_path)[-1])
    assert load_x(tmp_path) == (2.0, {"step": 2})
    printed = capsys.readouterr().err
    assert "step-00000003" in printed and complaint in printed and len(printed.splitlines()) == 1


@pytest.mark.fault(
    "flipped byte",
    injected="every checkpoint of a run is damaged",
    handled="the run refuses to begin anew over them, and says so",
    lost="nothing",
)
def test_when_all_are_damaged_it_stops_instead_of_starting_over(alone, tmp_path):
    from parallel.errors import CheckpointError

    for folder in save_three(tmp_path):
        damage_flip(folder)
    with pytest.raises(CheckpointError, match="3 refused"):
        checkpoint.newest(tmp_path)
    assert checkpoint.newest(tmp_path / "nothing here") is None


def test_what_a_killed_save_left_is_ignored_and_removed(alone, tmp_path):
    save_three(tmp_path)
    (tmp_path / "step-00000009.tmp-dead").mkdir()
    assert load_x(tmp_path)[0] == 3.0
    save_three(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", *(f"step-0000000{n}" for n in (1, 2, 3))]
    assert (tmp_path / "latest").read_text() == "step-00000003"


def test_only_the_newest_are_kept_and_a_damaged_later_one_does_not_count(alone, tmp_path):
    from parallel.pieces import Piece

    damage_flip(save_three(tmp_path, keep=2)[-1])
    assert [f.name for f in checkpoint.folders(tmp_path)] == ["step-00000003", "step-00000002"]
    again = checkpoint.save(tmp_path / "b", 1, [Piece.whole("x", torch.ones(2))], {}, keep=1)
    (tmp_path / "b" / "step-00000005").mkdir()  # of an abandoned future, damaged
    assert checkpoint.save(tmp_path / "b", 2, [Piece.whole("x", torch.ones(2))], {}, keep=1).exists()
    assert not again.exists() and checkpoint.newest(tmp_path / "b").name == "step-00000002"


def test_crafted_metadata_is_refused_and_nothing_runs(alone, tmp_path):
    from parallel import pieces
    from parallel.errors import CheckpointError

    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'owned'}",))

    (tmp_path / ".metadata").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match=r"\.metadata"):
        pieces.contents(tmp_path)
    assert not (tmp_path / "owned").exists()


def test_pickled_items_are_refused(alone, tmp_path):
    import torch.distributed.checkpoint as dcp

    from parallel import pieces
    from parallel.errors import CheckpointError

    dcp.save({"x": torch.ones(2), "settings": {"a": object}}, checkpoint_id=tmp_path)
    with pytest.raises(CheckpointError):
        pieces.contents(tmp_path)


def test_a_module_takes_the_weights_of_a_training_checkpoint(alone, tmp_path):
    from parallel.errors import CheckpointError
    from parallel.snapshot import load_module

    _, weights, _ = train(("fp32", "?", 1), 0, 1, tmp_path, save_at=1)
    module = tiny.build(seed=9)
    report = load_module(tmp_path, module)
    assert (report.step, report.extra, report.missing, report.unexpected) == (1, {"cursor": 1}, [], [])
    assert all(torch.equal(weights[name], value) for name, value in tiny.weights_of(module).items())

    deeper = tiny.build(seed=9, layers=4)
    with pytest.raises(CheckpointError, match="does not fit"):
        load_module(tmp_path, deeper)
    report = load_module(tmp_path, deeper, strict=False)
    assert all(key.startswith("decoder.layers.3.") for key in report.missing)
    assert f"{len(report.missing)} missing (decoder.layers {len(report.missing)})" in str(report)
    assert all(torch.equal(weights[name], tiny.weights_of(deeper)[name]) for name in weights)
    wider = tiny.build(seed=9, width=64)
    with pytest.raises(CheckpointError, match="32.* in the checkpoint and .*64"):
        load_module(tmp_path, wider)


def test_a_run_folder_its_root_and_one_folder_are_all_taken(alone, tmp_path):

    run = tmp_path / "recipe" / "pretrain"
    last = save_three(run / "checkpoints")[-1]
    for path in (run, run / "checkpoints", last):
        assert checkpoint.newest(path) == checkpoint.require(path) == last
        assert checkpoint.facts(path) == {"step": 3}
    assert load_x(last.with_name("step-00000002")) == (2.0, {"step": 2})


def test_what_is_no_checkpoint_is_told_apart(alone, tmp_path):
    from parallel.errors import CheckpointError

    save_three(tmp_path / "recipe" / "pretrain" / "checkpoints")
    (tmp_path / "file").write_text("")
    (tmp_path / "new" / "checkpoints").mkdir(parents=True)
    messages = {
        "nothing": "is no folder: give a run folder",
        "file": "is no folder: give a run folder",
        "new": "No checkpoint in .*new: give a run folder",
        "recipe": "in folders of it: choose .*recipe/pretrain",
        "recipe/pretrain/checkpoints/step-00000009": "is no folder",
    }
    for name, message in messages.items():
        assert checkpoint.newest(tmp_path / name) is None
        for refuse in (checkpoint.require, checkpoint.facts):
            with pytest.raises(CheckpointError, match=message):
                refuse(tmp_path / name)


def test_an_old_folder_that_goes_loses_its_name_first(alone, tmp_path, monkeypatch):
    """So that a kill in the middle of its removal leaves nothing that looks like a checkpoint."""

    monkeypatch.setattr(checkpoint.shutil, "rmtree", lambda folder, **_: None)
    save_three(tmp_path, keep=1)
    assert [folder.name for folder in checkpoint.folders(tmp_path)] == ["step-00000003"]
    assert len(list(tmp_path.glob("step-0000000[12].tmp-*"))) == 2
