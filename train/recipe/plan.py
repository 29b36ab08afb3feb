"""What a recipe is going to do: its steps, each with the complete configuration that it runs with. Nothing
heavy is imported.

All steps are composed and checked before the first one starts, so that a mistake in the last is told at once
and not after an hour.
"""

import math
import os
from pathlib import Path

from conf.compose import Composer, compose
from conf.errors import ConfigError
from conf.rules import meant
from data_pipeline.config import BuildConfig
from data_pipeline.config import check as check_build
from train.adapt.export.config import ExportConfig
from train.config import Config, RecipeConfig
from train.evaluate.config import EvaluateConfig
from train.evaluate.config import check as check_evaluate
from train.layout import topology_of
from train.quantize.config import RoundConfig
from train.recipe.step import FIXED, Step
from train.validate import validate


def folder_of(recipe: RecipeConfig) -> Path:
    """Where everything of this recipe is written."""
    return Path(recipe.directory) / recipe.name


def plan(recipe: RecipeConfig, world: int) -> list[Step]:
    """The steps of `recipe` for `world` processes, composed and checked. Raises ConfigError, which names the
    step.
    """
    _check_names(recipe)
    steps: list[Step] = []
    checkpoints: Path | None = None
    for name in recipe.steps:
        try:
            step = _step(recipe, name, checkpoints, world)
        except Exception as error:
            if not getattr(error, "user_error", False) and not isinstance(error, ConfigError):
                raise
            raise ConfigError(
                f"step {name}: {error}\n(overrides of this step: {_place(name)}=[OPTION=VALUE,...])"
            ) from error
        if step.is_stage or name == "merge":
            checkpoints = step.output
        steps.append(step)
    layouts = {topology_of(step.config.parallel, world) for step in steps if step.is_stage}
    if len(layouts) > 1:
        raise ConfigError(
            "the stages of a recipe run in the same processes and need the same layout: "
            "set it for all of them, common=[parallel.tensor=2]."
        )
    return steps


def process_count(recipe: RecipeConfig) -> int:
    """How many processes the recipe asks for. "auto": one on a machine with a GPU, else one for each core, at
    most two.

    More than two do not pay for the small models that fit a machine without a GPU. Raises ConfigError.
    """
    if recipe.processes == "auto":
        return 1 if Path("/dev/nvidiactl").exists() else min(2, len(os.sched_getaffinity(0)))
    if not recipe.processes.isdecimal() or int(recipe.processes) < 1:
        raise ConfigError(f"processes={recipe.processes}: give a number above 0, or processes=auto.")
    return int(recipe.processes)


def _step(recipe: RecipeConfig, name: str, checkpoints: Path | None, world: int) -> Step:
    folder = folder_of(recipe)
    if name == "build":
        build = compose(
            "build",
            BuildConfig,
            [f"out={_quoted(folder / 'pages')}", *recipe.build.settings, *recipe.build.overrides],
        )
        check_build(build)
        return Step(name, build, Path(build.out))
    if name == "evaluate":
        given = [f"checkpoint={_quoted(checkpoints.parent)}"] if checkpoints else []
        given.append(f"out={_quoted(folder / 'evaluation')}")
        evaluate = compose(
            "evaluate", EvaluateConfig, [*given, *recipe.evaluate.settings, *recipe.evaluate.overrides]
        )
        check_evaluate(evaluate)
        return Step(name, evaluate, folder / "evaluation" / "metrics.json")
    if name == "report":
        return Step(name, None, folder / "report.html")
    if name in ("merge", "export"):
        return _made(recipe, name, checkpoints)
    if name == "compare":
        given = [f"checkpoint={_quoted(folder)}", f"out={_quoted(folder / 'stages')}"]
        compare = compose(
            "evaluate", EvaluateConfig, [*given, *recipe.compare.settings, *recipe.compare.overrides]
        )
        check_evaluate(compare)
        return Step(name, compare, folder / "stages" / "stages.json")
    return _stage(recipe, name, checkpoints, world)


def _made(recipe: RecipeConfig, name: str, checkpoints: Path | None) -> Step:
    """What a command of its own makes of the last stage: a run without factors, or packed integers. Raises ConfigError where
    there is no stage before it.
    """
    if checkpoints is None:
        raise ConfigError(
            f"there is no stage before it to {name}; put {name} after the stages in steps=[...]."
        )
    folder, own = folder_of(recipe), getattr(recipe, name)
    target = folder / ("merged" if name == "merge" else "released")
    given = [f"checkpoint={_quoted(checkpoints.parent)}", f"to={_quoted(target)}"]
    given += ["merge=true"] if name == "merge" else ["form=released"]
    overrides = [*given, *own.settings, *own.overrides]
    if name == "merge":
        merge = compose("export", ExportConfig, overrides)
        return Step(name, merge, target / "checkpoints", ("train.adapt.export", *overrides))
    return Step(name, compose("round", RoundConfig, overrides), target, ("train.quantize", *overrides))


def _stage(recipe: RecipeConfig, name: str, checkpoints: Path | None, world: int) -> Step:
    """A stage starts from the checkpoint of the stage before it, unless its overrides say otherwise."""
    folder = folder_of(recipe)
    given = [f"run.directory={_quoted(folder)}", f"run.name={name}", f"data.root={_quoted(folder / 'pages')}"]
    if checkpoints is not None:
        given.append(f"stage.start_from={_quoted(checkpoints)}")
    own = recipe.stages[name]
    config: Config = Composer("config", Config).build([*given, *own.settings, *recipe.common, *own.overrides])
    if world > 1:  # a recipe written for one process runs on several: the micro-batch shrinks to fit
        config.data.micro_batch = (
            math.gcd(config.data.micro_batch, config.data.global_batch // _data_parallel(config, world)) or 1
        )
    validate(config, world, files=False)
    return Step(name, config, Path(config.run.directory) / config.run.name / "checkpoints")


def _data_parallel(config: Config, world: int) -> int:
    return max(1, world // max(1, config.parallel.tensor * config.parallel.pipeline))


def _check_names(recipe: RecipeConfig) -> None:
    known = [*FIXED, *recipe.stages]
    for name in recipe.steps:
        if name not in known:
            raise ConfigError(
                f"steps: there is no step {name}.{meant(name, known)} It has: {', '.join(known)}."
            )
    if len(set(recipe.steps)) < len(recipe.steps):
        raise ConfigError(f"steps={recipe.steps}: a step is named twice; each one has a folder of its own.")
    if clash := sorted(set(recipe.stages) & {*FIXED, "pages"}):
        raise ConfigError(f"stages.{clash[0]}: this name is taken, choose another.")


def _place(name: str) -> str:
    return f"{name}.overrides" if name in FIXED else f"stages.{name}.overrides"


def _quoted(path: Path) -> str:
    """A path as one value in Hydra's grammar, whatever characters are in it."""
    text = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"
