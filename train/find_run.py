"""Which run a path means: a run folder, what lies in it, or the recipe that the run belongs to. Loads no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data_pipeline.errors import UserError
from train.config import Config
from train.run_folder import read_json
from train.settings import read_settings


@dataclass(frozen=True)
class FoundRun:
    """A run and where its checkpoint is looked for: a folder of checkpoints, or one of them.

    stage_of: the recipe's folder, where that was given and the run was chosen among its stages.
    """

    folder: Path
    checkpoints: Path
    stage_of: Path | None = None

    def choice(self, option: str = "checkpoint") -> str | None:
        """One line about the stage that was chosen; None where nothing was."""
        if self.stage_of is None:
            return None
        return f"{option}={self.stage_of} is a recipe: takes its newest finished stage, {self.folder}"


def locate(path: Path, option: str = "checkpoint") -> FoundRun:
    """The run that `path` is, lies in, or holds as a recipe. option: what the user typed it for.

    Of a recipe, whose own folder has no `checkpoints`, RECIPE/checkpoints is understood, too. Raises UserError, naming
    the stages where there is a choice to make.
    """
    recipe = path.parent if path.name == "checkpoints" and not path.exists() else path
    if not recipe.is_dir():
        raise UserError(
            f"{option}={path}: no such folder; give a run folder, for example {option}=runs/smoke/pretrain"
        )
    for folder in (recipe, *recipe.resolve().parents[:2]):
        if (folder / "config.yaml").is_file():
            root = folder / "checkpoints" if recipe.resolve() == folder.resolve() else path
            return FoundRun(folder, root)
    inside = sorted(found.parent for found in recipe.glob("*/config.yaml"))
    stage = newest_finished_stage(recipe)
    if stage is not None:
        return FoundRun(stage, stage / "checkpoints", recipe)
    if inside:
        choices = " or ".join(f"{option}={folder}" for folder in inside)
        raise UserError(f"{option}={path} is no run itself but holds some; choose {choices}")
    raise UserError(
        f"{option}={path}: no run here (no config.yaml); give the folder that `python -m train` wrote"
    )


def newest_finished_stage(recipe: Path) -> Path | None:
    """The folder of the last stage that recipe.json says is done; None without one. A moved folder is still found."""
    written = read_json(recipe / "recipe.json")
    steps = written.get("steps", []) if isinstance(written, dict) else []
    done = [
        recipe / str(step["name"]) for step in steps if isinstance(step, dict) and step.get("state") == "done"
    ]
    stages = [folder for folder in done if (folder / "config.yaml").is_file()]
    return stages[-1] if stages else None


def run_folder_of(path: Path) -> Path:
    """The folder of the run that `path` means. Raises UserError."""
    return locate(path).folder


def read_config(path: Path) -> Config:
    """A run's config.yaml as it was resolved for the run. Raises UserError where it cannot be read."""
    try:
        loaded = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), read_settings(path)))
    except OmegaConfBaseException as error:
        name = f"{error.full_key}: " if getattr(error, "full_key", None) else ""
        raise UserError(f"{path}: not the configuration of a run ({name}{str(error).splitlines()[0]})") from error
    assert isinstance(loaded, Config)
    return loaded


def training_sets(run: Config) -> list[Path]:
    """The shard sets that a run was trained on, of those that are on this machine."""
    folders = [Path(source.path) for source in run.data.train.values()]
    return [folder for folder in folders if (folder / "manifest.json").is_file()]


def places_read(given: Sequence[str], teacher: str) -> list[str]:
    """Places of the shard sets that a teacher reads: those `given`, or where there are none those it was trained on."""
    if given:
        return list(given)
    run = read_config(locate(Path(teacher), "teacher").folder / "config.yaml")
    return [source.path for source in run.data.train.values()]
