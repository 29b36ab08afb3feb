"""Recipes: what they plan, what they remember, and one whole chain that stops, goes on and refuses to mix settings."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conf.compose import compose
from conf.errors import ConfigError
from tests import forked
from train.config import RecipeConfig
from train.recipe.plan import plan, process_count
from train.recipe.state import Ledger
from train.recipe.step import Step

ROOT = Path(__file__).resolve().parents[3]
SMALL = [
    "build.overrides=[corpus.pages=32,corpus.held_out_pages=8,corpus.held_out_random_pages=8]",
    "common=[stage.steps=4,optim.warmup_steps=1,stage.evaluate_every=2,stage.evaluation_pages=4,data.micro_batch=4,"
    "data.global_batch=4,stage.curriculum.levels=[],stage.weight_decomposition.every=2]",
    "compare.overrides=[pages=2]",
    "evaluate.overrides=[pages=2]",
]


def recipe(*overrides: str) -> RecipeConfig:
    return compose("recipe", RecipeConfig, overrides)


def steps(*overrides: str, world: int = 1) -> dict[str, Step]:
    return {step.name: step for step in plan(recipe(*overrides), world)}


def test_each_step_gets_what_the_one_before_it_made(tmp_path: Path) -> None:
    found = steps(f"directory={tmp_path}", 'name="it\'s"')
    folder = tmp_path / "it's"
    assert list(found) == [
        "build", "encoder", "pretrain", "qat", "distill", "dora", "merge", "export", "compare", "evaluate", "report",
    ]  # fmt: skip
    assert found["build"].output == folder / "pages"
    assert found["encoder"].config.data.train["ratio-4"].path == f"{folder}/pages/train/ratio-4"
    assert found["encoder"].config.stage.start_from is None
    assert found["pretrain"].config.stage.start_from == str(folder / "encoder" / "checkpoints")
    assert found["qat"].config.stage.start_from == str(folder / "pretrain" / "checkpoints")
    assert found["distill"].config.distill.teacher == str(folder / "pretrain")
    assert found["dora"].config.quantize.bits == 4, "what is merged is what was trained"
    assert found["merge"].config.checkpoint == str(folder / "dora") and found["merge"].config.merge
    assert found["export"].config.checkpoint == str(folder / "merged")
    assert found["evaluate"].config.checkpoint == str(folder / "merged")
    assert found["report"].output == folder / "report.html"


def test_overrides_of_the_user_win_over_the_recipes_own() -> None:
    found = steps("common=[stage.steps=77,seed=5]", "stages.pretrain.overrides=[stage.steps=78]")
    assert (found["encoder"].config.stage.steps, found["pretrain"].config.stage.steps) == (77, 78)
    assert (found["encoder"].config.seed, found["pretrain"].config.seed) == (5, 5)


def test_a_recipe_for_one_process_runs_on_several() -> None:
    assert (
        steps(world=2)["encoder"].config.data.micro_batch * 2 <= steps()["encoder"].config.data.global_batch
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["steps=[biuld]"], "no step biuld. Did you mean build?"),
        (["steps=[build,build]"], "named twice"),
        (
            ["common=[optim.lrr=1]"],
            "step encoder: optim.lrr=1: there is no option optim.lrr. Did you mean optim.lr",
        ),
        (["stages.pretrain.overrides=[seed=-1]"], "overrides of this step: stages.pretrain.overrides="),
        (["build.overrides=[corpus.pages=-1]"], "step build: corpus.pages="),
        (["evaluate.overrides=[pages=0]"], "step evaluate: pages=0"),
        (["stages.encoder.overrides=[parallel.tensor=2]"], "start a multiple of 2 processes"),
    ],
)
def test_a_mistake_in_any_step_is_told_before_the_first(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        steps(*overrides)
    assert message in str(caught.value)


def test_stages_of_different_layouts_are_refused() -> None:
    with pytest.raises(ConfigError, match="same layout"):
        steps("stages.encoder.overrides=[parallel.tensor=2]", world=2)


def test_processes_are_counted_or_refused() -> None:
    assert process_count(recipe("processes=1")) == 1
    assert process_count(recipe("processes=3")) == 3
    assert process_count(recipe("processes=auto")) >= 1
    with pytest.raises(ConfigError, match="processes=auto"):
        process_count(recipe("processes=many"))


def ledger_of(tmp_path: Path, *overrides: str) -> tuple[Ledger, list[Step]]:
    planned = list(steps(f"directory={tmp_path}", *overrides).values())
    return Ledger(tmp_path / "smoke", "smoke", planned, writes=True), planned


def test_a_killed_step_goes_on_and_a_finished_one_is_skipped(tmp_path: Path) -> None:
    ledger, (build, encoder, *_) = ledger_of(tmp_path)
    ledger.begin(build)
    ledger.end(build, "done")
    ledger.begin(encoder)  # and killed
    again, _ = ledger_of(tmp_path)
    assert again.is_done(build)
    assert not again.is_done(encoder)
    assert again.is_begun(encoder)


def test_changed_settings_are_told_and_restart_does_the_rest_again(tmp_path: Path) -> None:
    ledger, planned = ledger_of(tmp_path)
    for step in planned:
        ledger.begin(step)
        ledger.end(step, "done")
    changed, planned = ledger_of(tmp_path, "stages.pretrain.overrides=[optim.lr=7e-3]")
    with pytest.raises(ConfigError, match=r"(?s)step pretrain.*optim\.lr: 0\.\d+ → 0\.007.*restart=true"):
        changed.check(planned, restart=False)
    assert [step.name for step in changed.check(planned, restart=True)] == [step.name for step in planned[2:]]
    same, planned = ledger_of(
        tmp_path, "common=[logger.console_every=1,stage.keep_checkpoints=9]", "build.overrides=[workers=1]"
    )
    assert same.check(planned, restart=False) == []


def test_steps_that_a_call_leaves_out_stay_in_the_account(tmp_path: Path) -> None:
    ledger, (build, *_) = ledger_of(tmp_path)
    ledger.begin(build)
    ledger.end(build, "done")
    fewer, (encoder,) = ledger_of(tmp_path, "steps=[encoder]")
    fewer.begin(encoder)
    assert ledger_of(tmp_path)[0].is_done(build)


def test_a_recipe_runs_to_its_report_skips_what_is_done_and_refuses_other_settings(tmp_path: Path) -> None:
    def call(*more: str) -> subprocess.CompletedProcess[str]:
        return forked.run(["train.recipe", "name=chain", *SMALL, *more], world=2, cwd=tmp_path)

    first = call()
    assert first.returncode == 0, first.stderr
    folder = tmp_path / "runs" / "chain"
    assert (folder / "report.html").stat().st_size > 1000
    state = {entry["name"]: entry for entry in json.loads((folder / "recipe.json").read_text())["steps"]}
    assert {entry["state"] for entry in state.values()} == {"done"}
    found = json.loads((folder / "report.json").read_text())["after_each_stage"]
    assert [row["name"] for row in found] == ["encoder", "pretrain", "qat", "distill", "dora", "merge", "export"]
    by_name = {row["name"]: row for row in found}
    assert by_name["merge"]["sources"] == by_name["dora"]["sources"], "merging changes nothing"
    assert by_name["qat"]["megabytes"] < 0.7 * by_name["pretrain"]["megabytes"]
    page = (folder / "report.html").read_text()
    assert "What each stage did" in page and "How weights moved" in page
    second = call()
    assert second.returncode == 0, second.stderr
    assert second.stdout.count("done before") == 10
    other = call("stages.encoder.overrides=[optim.lr=9e-3]")
    assert other.returncode == 2
    assert "optim.lr: " in other.stderr
    assert "Traceback" not in other.stderr


def test_a_build_that_fails_is_one_message_from_all_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "train.recipe", "recipe=smoke", "processes=2", f"directory={tmp_path}"]
    command.append("build.overrides=[corpus.page.font_dirs=[/nowhere]]")
    ran = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1 and "corpus.page.font_dirs=/nowhere" in ran.stderr


def test_a_recipe_that_merges_before_it_trains_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"step merge: there is no stage before it"):
        steps("steps=[build,merge,dora]")


def test_full_gives_the_later_stages_time() -> None:
    found = steps("recipe=full")
    assert {found[name].config.stage.steps for name in ("qat", "distill", "dora")} == {600}
    assert found["distill"].config.distill.teacher == "runs/full/pretrain"
