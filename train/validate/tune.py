"""Fine-tuning that cannot work: kinds that do not exist, prompts that leave no room, bases that were never trained."""

from collections.abc import Iterator
from pathlib import Path

from conf import rules
from conf.errors import ConfigError
from data_pipeline.data_config import SHORTEST_TEXT
from data_pipeline.errors import DataError
from data_pipeline.resolution import mode_of, most_positions
from train.config import ADDING, LOW_RANK, Config
from train.settings import read_settings, section
from train.targets import LAYER, chosen
from train.validate.low_rank import low_rank_faults

OWN = ("none", "full")  # the model's own weights train, as stage.frozen says
WITH_WIDTH = ("adapter", "prefix", "p_tuning")
WITH_TOKENS = ("prefix", "prompt", "p_tuning", "p_tuning_v2")
KINDS = (*OWN, *LOW_RANK, *ADDING, "selective")
LEAST = 2  # positions of a sample that are neither page nor text: its begin and its end


def tune_faults(config: Config) -> Iterator[str]:
    """A sentence for every impossible value of `config.tune`."""
    tune = config.tune
    yield from rules.one_of("tune.kind", tune.kind, KINDS)
    if tune.kind in WITH_WIDTH:
        yield from rules.at_least("tune.width", tune.width, 1, f"hidden features of tune.kind={tune.kind}")
    if tune.kind in WITH_TOKENS:
        yield from rules.at_least(
            "tune.tokens", tune.tokens, 1, f"learned positions of tune.kind={tune.kind}"
        )
    yield from _room(config)
    yield from _what_trains(config)
    if tune.kind == "adapter":
        yield from _behind(config)
    yield from low_rank_faults(config)


def tune_file_faults(config: Config) -> Iterator[str]:
    """A start whose run added modules that cannot be made part of its weights."""
    start = config.stage.start_from
    if start is None:
        return
    path = Path(start).resolve()
    for folder in (path, *path.parents[:2]):
        file = folder / "config.yaml"
        if file.is_file():
            before = read_settings(file)
            kind, base = section(before, "tune").get("kind"), section(before, "stage").get("start_from")
            if kind in ADDING:
                yield (
                    f"stage.start_from={start}: that run trained tune.kind={kind}, which stays beside the weights it was "
                    f"trained for and cannot be merged into them. Begin with its base, stage.start_from={base}, or go on "
                    f"with it by resume={start}."
                )
            return


def _room(config: Config) -> Iterator[str]:
    """A prompt, a page and a text share a row."""
    tokens, data, patch = config.tune.reserved, config.data, config.model.encoder.patch
    if tokens < 1 or patch < 1 or not data.modes:
        return
    try:
        least = most_positions([mode_of(mode) for mode in data.modes], patch) + LEAST + SHORTEST_TEXT
    except DataError:
        return  # told already: a mode that does not exist
    left = data.max_length - least
    if left < tokens:
        fewer = f"tune.tokens={left}, or " if left > 0 else ""
        yield (
            f"tune.tokens={tokens}: before a page and its text, which take up to {least} of data.max_length={data.max_length} "
            f"positions, there is room for {max(left, 0)}. Choose {fewer}data.max_length={least + tokens} or more."
        )


def _what_trains(config: Config) -> Iterator[str]:
    tune, stage = config.tune, config.stage
    if tune.kind in OWN and tune.train:
        yield (
            f"tune.train={tune.train}: with tune.kind={tune.kind} all parameters train that stage.frozen leaves. Choose "
            "tune=selective, or tune.train=[]."
        )
    if tune.kind == "full" and stage.frozen:
        yield f"stage.frozen={stage.frozen}: tune.kind=full trains everything. Choose stage.frozen=[], or tune=none."
    if tune.kind == "selective" and not tune.train:
        yield "tune.train=[]: nothing is left to train. Name parameters, such as tune.train=['*.bias','decoder.*norm*']."
    if tune.kind in (*ADDING, *LOW_RANK, "selective") and stage.start_from is None and config.resume is None:
        yield (
            f"tune.kind={tune.kind}: the weights that stay as they are would be random ones. Choose the run to start from: "
            "stage.start_from=runs/NAME."
        )


def _behind(config: Config) -> Iterator[str]:
    """Adapters stand behind attention and feed-forward of the decoder's layers."""
    try:
        targets = chosen(config.model, config.tune.targets, "tune.targets")
    except ConfigError as error:
        yield str(error)
        return
    first = LAYER.rstrip("*")
    outside = [target.name for target in targets if not target.name.startswith(first)]
    if outside:
        yield (
            f"tune.targets={config.tune.targets}: adapters stand behind attention and feed-forward of the decoder's layers, "
            f"not behind {outside[0]}. Choose of attention, dense, shared_experts, experts."
        )
