"""Files that a configuration names and that are not there, or that exclude each other."""

import re
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.errors import DataError
from data_pipeline.remote import located
from train.config import Config
from train.settings import read_settings, section
from train.validate.start import start_faults

STEP = re.compile(r"step-\d{8,}")  # the name of a checkpoint's folder: parallel.checkpoint, which loads torch


def file_faults(config: Config) -> Iterator[str]:
    """A sentence for every shard set, tokenizer, or checkpoint that cannot be read from where it is said to be."""
    data, start = config.data, config.stage.start_from
    absent = []
    for group in ("train", "held_out", "floor"):
        for name, source in getattr(data, group).items():
            option = f"data.{group}.{name}.path={source.path}"
            try:
                place = located(source.path)
            except DataError as error:
                yield f"{option}: {error}."
                continue
            if (
                isinstance(place, Path) and not (place / "manifest.json").is_file()
            ):  # what is elsewhere is asked when it is read
                absent.append(option)
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        build = f"python -m data_pipeline.build corpus=smoke out={data.root}"
        yield f"{absent[0]}{more}: no shards there (no manifest.json). Build them: {build}, or choose data.root=FOLDER."
    if data.tokenizer != "bytes" and not Path(data.tokenizer).is_file():
        yield f"data.tokenizer={data.tokenizer}: no such file. Give a tokenizer.json, or data.tokenizer=bytes."
    if start is not None:
        faults = list(_checkpoints("stage.start_from", start))
        yield from faults or start_faults(config)
    if config.resume is not None:
        yield from _checkpoints("resume", config.resume)
        yield from _other_stage(config.resume, config.stage.name)


def checkpoints_in(path: Path) -> list[Path]:
    """The checkpoint folders that `path` stands for: itself, or those in it or in its folder `checkpoints`; newest
    first, whole or not.
    """
    if (path / "manifest.json").is_file():
        return [path]
    found = [folder for place in (path, path / "checkpoints") for folder in place.glob("step-*")]
    return sorted((folder for folder in found if STEP.fullmatch(folder.name)), key=step_in_name, reverse=True)


def step_in_name(folder: Path) -> int:
    """120 for step-00000120; 0 for a folder of another name."""
    return int(folder.name.removeprefix("step-")) if STEP.fullmatch(folder.name) else 0


def _checkpoints(option: str, given: str) -> Iterator[str]:
    path = Path(given)
    if not path.is_dir():
        example = f"{option}=runs/NAME/checkpoints"
        yield f"{option}={given}: no such folder. Give the checkpoints of a run, such as {example}."
    elif not checkpoints_in(path):
        inside = sorted({found.parent.parent for found in path.glob("*/checkpoints/step-*")})
        choices = " or ".join(f"{option}={run}" for run in inside[:4])
        hint = f"It holds runs: choose {choices}." if inside else "Give the folder of a run that has saved."
        yield f"{option}={given}: no checkpoint there (no folder step-00000120). {hint}"


def _other_stage(given: str, stage: str) -> Iterator[str]:
    """A run goes on in its own stage: what trains, and the counters, are of that one."""
    path = Path(given).resolve()
    for folder in (path, *path.parents[:2]):
        config = folder / "config.yaml"
        if config.is_file():
            before = section(read_settings(config), "stage").get("name", stage)
            if before != stage:
                yield (
                    f"resume={given}: that run's stage is {before}, this one is {stage}. Choose stage={before} to go on with it, "
                    f"or stage.start_from={given} in place of resume= to begin {stage} with its weights."
                )
            return
