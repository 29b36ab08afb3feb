"""Runs whose numbers go wrong: what is counted, named, told, and when they end; and that a resumed one decides alike."""

import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import Runs, Started, losses, notes, status
from tests.faults.injections import before_step, each, send
from tests.train.guard.poison import gradient, larger, loss, poison

SMALL = ("data.micro_batch=1", "stage.evaluate_every=100", "stage.checkpoint_every=100")
SKIPPING = ("guard=skip_spikes", "guard.window=8", "stage.evaluate_every=100")


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def bad_steps(folder: Path) -> list[dict[str, Any]]:
    return lines(folder / "bad_steps.jsonl")


def steps_of(folder: Path) -> list[dict[str, Any]]:
    return [row for row in lines(folder / "metrics.jsonl") if "grad_norm" in row]


@pytest.fixture(scope="module")
def poisoned(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Started:
    """Two ranks; on rank 1 the first micro-batch of step 2, the second one of step 4 once, and of step 6 only the gradient."""
    fault = partial(each, partial(poison, loss, [2]), partial(poison, loss, [4], 1, 1), partial(poison, gradient, [6], 1))
    done = runs.run(tmp_path_factory.mktemp("poisoned") / "run", *SMALL, world=2, faults={1: fault})
    assert done.codes == [0, 0], done.err()
    return done


def test_steps_that_change_nothing_are_counted(poisoned: Started) -> None:
    steps = steps_of(poisoned.folder)
    assert [row["skipped"] for row in steps] == [False, True, False, True, False, True, False, False]
    assert [row["skipped_total"] for row in steps] == [0, 1, 1, 2, 2, 3, 3, 3]
    assert all(row["spikes_total"] == 0 for row in steps)


def test_the_samples_the_parameter_and_the_rank_are_named(poisoned: Started) -> None:
    lasting, passing, sloped = bad_steps(poisoned.folder)
    assert [row["step"] for row in (lasting, passing, sloped)] == [2, 4, 6]
    assert [row["kind"] for row in (lasting, passing, sloped)] == ["loss", "loss", "gradient"]
    assert [row["again"] for row in (lasting, passing, sloped)] == [True, False, True]
    for row in (lasting, passing, sloped):
        assert row["ranks"] == [1] and len(row["samples"]) == 1
        assert row["samples"][0]["sample"].startswith("ratio-") and row["samples"][0]["ranks"] == [1]
    (parameters,) = sloped["parameters"]
    assert parameters["rank"] == 1 and parameters["count"] > 50 and parameters["first"][0] == "decoder.output_layer.weight"


def test_each_is_told_in_one_line_that_tells_the_machine_from_the_data(poisoned: Started) -> None:
    lasting, passing, sloped = (text for text in notes(poisoned.folder) if "skipped" in text)
    assert lasting.startswith("step 2 skipped: its loss is not finite; samples ratio-")
    assert "on rank 1" in lasting and "comes from the data or the model" in lasting
    assert "a passing fault of the machine of rank 1" in passing
    assert "step 6 skipped: its gradient is not finite, its loss is" in sloped
    assert "decoder.output_layer.weight and" in sloped and "on rank 1, samples ratio-" in sloped
    assert all(text in poisoned.out() for text in (lasting, passing, sloped))


@pytest.mark.fault(
    "NaN or infinite loss or gradient",
    injected="a gradient that is infinite in every step from the second on",
    handled="after guard.max_skipped steps the run ends, names samples and parameters, and says which override may help",
    lost="nothing: the weights are those before the first of them",
)
def test_a_run_that_no_longer_learns_ends_and_says_what_may_help(runs: Runs, tmp_path: Path) -> None:
    fault = partial(poison, gradient, range(2, 99))
    done = runs.run(tmp_path / "run", *SMALL, "guard.max_skipped=2", "engine.precision=bf16", world=2, faults={1: fault})
    assert done.codes == [2, 2] and "Traceback" not in done.err() and done.err(1) == "", done.err(1)
    for text in ("2 steps in a row changed nothing (guard.max_skipped=2)", "those after step 1", "decoder.output_layer.weight",
                 "samples ratio-", "It was always rank 1", "optim.lr=0.001 or engine.precision=fp32", "bad_steps.jsonl"):  # fmt: skip
        assert text in done.err()
    told = status(done.folder)
    assert told["state"] == "failed" and "2 steps in a row" in told["error"] and told["step"] == 3


@pytest.mark.fault(
    "loss spike",
    injected="a loss 30 times as large as it is, in step 7 of 8; the run is stopped before it, and resumed",
    handled="with guard=skip_spikes the step is not made, with guard=default it is told; a resumed run decides alike",
    lost="the step, with guard=skip_spikes",
)
def test_a_spike_is_skipped_and_a_resumed_run_decides_as_one_that_was_not_interrupted(runs: Runs, tmp_path: Path) -> None:
    whole = runs.run(tmp_path / "whole", *SKIPPING, faults={0: partial(poison, partial(larger, 30.0), [7])})
    assert whole.codes == [0], whole.err()
    stop = partial(before_step, {6: partial(send, signal.SIGTERM)})
    stopped = runs.run(tmp_path / "halves", *SKIPPING, faults={0: stop})
    assert status(stopped.folder)["state"] == "stopped" and status(stopped.folder)["step"] == 6
    resumed = runs.run(tmp_path / "halves", *SKIPPING, faults={0: partial(poison, partial(larger, 30.0), [1])})
    assert resumed.codes == [0], resumed.err()
    assert losses(whole.folder) == losses(resumed.folder)
    assert bad_steps(whole.folder) == bad_steps(resumed.folder)
    ours = ("skipped", "skipped_total", "spikes_total", "spike/loss", "spike/grad_norm")
    one, other = ([{name: row.get(name) for name in ours} for row in steps_of(run.folder)] for run in (whole, resumed))
    assert one == other and one[6]["skipped"] and one[6]["spike/loss"] > 6 and one[3]["spike/loss"] is None
    assert "step 7 skipped: the loss, " in whole.out()


def test_a_spike_is_only_told_by_default_and_a_new_level_of_the_curriculum_is_none(runs: Runs, tmp_path: Path) -> None:
    levels = ("guard.window=4", "stage.curriculum.levels=[[ratio-4],[ratio-8]]", "stage.curriculum.max_steps=4")
    done = runs.run(tmp_path / "run", *levels, faults={0: partial(poison, partial(larger, 30.0), [7])})
    steps = steps_of(done.folder)
    assert [row["level"] for row in steps] == [0] * 4 + [1] * 4
    assert [row["step"] for row in steps if "spike/loss" in row] == [3, 4, 7, 8], "a new level's first steps are compared with the old one's"
    assert not any(row["skipped"] for row in steps) and [row["spikes_total"] for row in steps][5:7] == [0, 1]
    (row,) = bad_steps(done.folder)
    assert "loss spike" in row["kind"] and not row["skipped"] and row["again"] is None and row["deviations"]["loss"] > 6
    assert "step 7 made all the same: the loss, " in done.out()
