"""Which pages an evaluation reads, from its settings and those of the run."""

from collections.abc import Callable
from pathlib import Path

from conf.errors import ConfigError
from data_pipeline.errors import DataError
from data_pipeline.reader import records
from data_pipeline.view import shard_sets
from train.config import Config
from train.evaluate.config import EvaluateConfig
from train.evaluate.formats import READERS
from train.evaluate.formats.page import Page
from train.evaluate.pages import Source, folder_source, shard_source

PAGES_OF_SHARDS = 64  # of each shard set, where nothing else is asked for


def sources_of(config: EvaluateConfig, run: Config) -> list[Source]:
    """The pages to read. Raises ConfigError or DataError for data that are not there or not in the format."""
    if config.format != "shards":
        assert config.data is not None  # config.check
        folder = READERS[config.format](Path(config.data))
        return [
            folder_source(
                config.format, folder, config.pages, _prompt_of(config.prompt, run), config.languages
            )
        ]
    held_out, floor = shard_folders(run, config.data)
    limit = PAGES_OF_SHARDS if config.pages is None else config.pages
    return [
        shard_source(name, path, floor.get(name), limit, config.prompt, config.languages)
        for name, path in held_out.items()
    ]


def shard_folders(run: Config, data: str | None) -> tuple[dict[str, Path], dict[str, Path]]:
    """Held-out shard sets and those of their random text, by source: the run's own; below `data`, where that is given
    and laid out as the run's data.root; else every shard set there.
    """
    held_out, floor = (
        {name: Path(source.path) for name, source in part.items()}
        for part in (run.data.held_out, run.data.floor)
    )
    if data is None:
        if not held_out:
            raise ConfigError("the run has no held-out pages of its own: say which to read, data=FOLDER")
        return held_out, floor
    root = Path(run.data.root)
    below = [path for path in (*held_out.values(), *floor.values()) if path.is_relative_to(root)]
    if held_out and len(below) == len(held_out) + len(floor):
        moved = [
            {name: Path(data) / path.relative_to(root) for name, path in part.items()}
            for part in (held_out, floor)
        ]
        if any(path.exists() for path in moved[0].values()):
            return moved[0], moved[1]
    return {name: path for name, (path, _) in shard_sets(Path(data)).items()}, {}


def _prompt_of(given: str | None, run: Config) -> Callable[[Page], str]:
    """What a page of another format is asked: `given`, else what its benchmark asks, else what the run's own held-out
    pages ask.
    """
    own: list[str] = []  # looked up once, and only when a page needs it

    def prompt(page: Page) -> str:
        if given is not None or page.prompt is not None:
            return given if given is not None else page.prompt or ""
        if not own:
            own.append(_own_prompt(run))
        return own[0]

    return prompt


def _own_prompt(run: Config) -> str:
    for source in run.data.held_out.values():
        try:
            return next(records(Path(source.path), 1)).prompt
        except DataError as error:
            raise DataError(
                f"the prompt that the model was trained with cannot be found: {error}. Give it: prompt='…'"
            ) from None
    raise ConfigError("the run has no held-out pages to take the prompt from: give it, prompt='…'")
