"""Two runs are equal bit by bit, or they part in a step and a tensor that `python -m train.compare` names."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.faults.harness import Runs
from tests.train.shard_set import make_records, write_shard_set
from train.compare.__main__ import DESCRIPTION, CompareConfig, check, main
from train.compare.command import Comparison, compare, told
from train.run_folder import CHECKSUMS, read_rows

VICTIM, STEP = "encoder.projector.weight", 3  # whose gradient is changed, and when


def change_a_gradient() -> None:
    """One element of one gradient is another one in one step, as a race in a kernel makes it."""
    import torch

    from parallel.engine import Engine

    build, step = Engine.__init__, Engine.train_step
    done = SimpleNamespace(steps=0)

    def changed(gradient: torch.Tensor) -> torch.Tensor:
        other = gradient.clone()
        other.view(-1)[5] += 1e-3 * (done.steps == STEP)
        return other

    def built(self: Engine, module: torch.nn.Module, *args: object, **options: object) -> None:
        dict(module.named_parameters())[VICTIM].register_hook(changed)
        build(self, module, *args, **options)  # type: ignore[arg-type]

    def stepped(self: Engine, *args: object, **options: object) -> object:
        done.steps += 1
        return step(self, *args, **options)  # type: ignore[arg-type]

    Engine.__init__, Engine.train_step = built, stepped  # type: ignore[method-assign, assignment]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Four steps: twice the same, but for the processes that read data; with a gradient changed; on two ranks."""
    folder = tmp_path_factory.mktemp("compare")
    sets = {"train/ratio-4": 24, "train/ratio-8": 24} | {
        f"held_out/{kind}": 4 for kind in ("ratio-4", "ratio-8", "random-4", "random-8")
    }
    for number, (name, count) in enumerate(sets.items()):
        write_shard_set(folder / "pages" / name, make_records(count, seed=number))
    base = Runs(
        [
            "stage=encoder", f"data.root={folder}/pages", "stage.steps=4", "stage.checkpoint_every=2", "stage.evaluate_every=4",
            "stage.evaluation_pages=4", "optim.warmup_steps=2", "data.global_batch=4", "data.micro_batch=2", "run.device=cpu",
            "model.decoder.layers=2", "deterministic=true", "logger.checksums_every=1",
        ],
        folder / "said",
    )  # fmt: skip
    started = {
        "one": base.start(folder / "one", "data.workers=0"),
        "again": base.start(folder / "again", "data.workers=2"),
        "changed": base.start(folder / "changed", faults={0: change_a_gradient}),
        "two": base.start(folder / "two", world=2),
        "tensor": base.start(
            folder / "tensor", "parallel=tp2_ep2", "stage.steps=1", "optim.warmup_steps=0", world=2
        ),
    }
    for name, run in started.items():
        assert run.wait() == [0] * len(run.ranks), f"{name}: {run.err()}"
    return {name: run.folder for name, run in started.items()}


def said(found: Comparison) -> str:
    return "\n".join(told(found))


def test_two_runs_are_bit_equal_with_any_number_of_reading_processes(runs: dict[str, Path]) -> None:
    found = compare(runs["one"], runs["again"])
    assert found.equal, said(found)
    assert found.settings == [("data.workers", 0, 2)]
    assert (found.steps.common, found.sums.common, len(found.checkpoints)) == (4, 5, 2)
    assert found.sums.gradients and len(read_rows(runs["one"] / CHECKSUMS)[1]["gradients"]) > 50


def test_the_step_and_the_tensor_where_runs_part_are_named(runs: dict[str, Path]) -> None:
    found = compare(runs["one"], runs["changed"])
    assert not found.equal and found.parted_at == STEP
    assert found.steps.parted is not None and found.steps.parted.metric == "grad_norm"
    gradients, *state = found.sums.parted
    assert (gradients.step, gradients.kind, gradients.name, gradients.count) == (STEP, "gradient", VICTIM, 1)
    assert [part.kind for part in state] == ["weight", "optimizer tensor"]
    saved = found.checkpoints
    assert [(part.step, part.equal) for part in saved] == [(2, True), (4, False)]
    assert {part.kind for part in saved[1].differences} == {"weight", "optimizer tensor"} and not saved[
        1
    ].facts
    text = said(found)
    assert "the losses are equal: the backward pass" in text and "equal at 2" in text and VICTIM in text


def test_another_layout_is_equal_within_a_tolerance_and_only_there(runs: dict[str, Path]) -> None:
    assert not compare(runs["one"], runs["two"], checkpoints=False).equal
    found = compare(runs["one"], runs["two"], rtol=1e-3)
    assert found.equal and "equal, within 0.001" in said(found), said(found)
    assert not found.sums.gradients and "other layouts" in said(found)
    for other in ("two", "tensor"):
        begun = [read_rows(runs[name] / CHECKSUMS)[0]["state"] for name in ("one", other)]
        assert list(begun[0]) == list(begun[1])
        assert all(begun[0][key][0] == begun[1][key][0] for key in begun[0]), (
            "the sums of equal weights differ with the layout"
        )
    assert not compare(runs["changed"], runs["two"], rtol=1e-9).equal


def test_checkpoints_alone_tell_it_with_data_random_numbers_and_weights_apart(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("one", "changed"):
        shutil.copytree(runs[name], tmp_path / name)
        (tmp_path / name / CHECKSUMS).unlink()
        (tmp_path / name / "metrics.jsonl").unlink()
    found = compare(tmp_path / "one", tmp_path / "changed")
    assert found.parted_at == 4 and found.steps.common == found.sums.common == 0
    (tmp_path / "changed" / "checkpoints" / "step-00000002").rename(tmp_path / "two")
    shutil.rmtree(tmp_path / "changed" / "checkpoints")
    (tmp_path / "changed" / "checkpoints").mkdir()
    (tmp_path / "two").rename(
        tmp_path / "changed" / "checkpoints" / "step-00000004"
    )  # the state of an earlier step
    manifest = tmp_path / "changed" / "checkpoints" / "step-00000004" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"step": 4}))
    (other,) = compare(tmp_path / "one", tmp_path / "changed").checkpoints
    assert "extra.cursor" in other.facts and "updates" in other.facts
    data = next((tmp_path / "changed" / "checkpoints" / "step-00000004").glob("*.distcp"))
    data.write_bytes(data.read_bytes()[:-1])
    assert f"damaged: {data.parent}" in said(compare(tmp_path / "one", tmp_path / "changed"))


def test_the_command_says_it_in_lines_and_by_its_exit_code(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(CompareConfig(str(runs["one"]), str(runs["again"]), checkpoints=False)) == 0
    assert "equal, bit by bit" in capsys.readouterr().out
    out = tmp_path / "parted.json"
    assert main(CompareConfig(str(runs["one"]), str(runs["changed"]), checkpoints=False, json=str(out))) == 1
    assert f"parted at step {STEP}" in capsys.readouterr().out
    written = json.loads(out.read_text())
    assert written["parted_at"] == STEP and written["sums"]["parted"][0]["name"] == VICTIM


def test_folders_are_given_by_their_place_on_the_command_line(runs: dict[str, Path]) -> None:
    from conf.command import run

    seen: list[CompareConfig] = []
    strange = runs["one"].with_name("it's-lr=1")
    strange.mkdir()
    arguments = [str(strange), "rtol=0.5", str(runs["two"])]
    assert (
        run(seen.append, "compare", CompareConfig, arguments, DESCRIPTION, [], check, positional=("a", "b"))
        == 0
    )
    assert (seen[0].a, seen[0].b, seen[0].rtol) == (str(strange), str(runs["two"]), 0.5)
    assert run(seen.append, "compare", CompareConfig, [*arguments, "third"], positional=("a", "b")) == 2
    assert (
        run(
            seen.append, "compare", CompareConfig, ["rtol=-1", "x", "y"], "", [], check, positional=("a", "b")
        )
        == 2
    )


def test_runs_without_a_common_step_are_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    with pytest.raises(Exception, match="no step in common"):
        compare(runs["one"], tmp_path)
