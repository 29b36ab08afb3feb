"""The model that a stage starts from is the one that it trains: sizes, and what says how weights are used."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_pipeline.errors import UserError
from train.config import Config, ModelConfig
from train.find_run import read_config

FREE = (
    "name",
    "decoder.max_length",
    "decoder.rope_theta",
    "decoder.aux_loss",
)  # may change from stage to stage
OF_GLYPHS = "glyph_classes"


def start_faults(config: Config) -> Iterator[str]:
    """A sentence where `stage.start_from` is of a run with another model, with the overrides that give its own."""
    given = config.stage.start_from
    assert given is not None
    path = Path(given).resolve()
    written = next(
        (folder for folder in (path, *path.parents[:2]) if (folder / "config.yaml").is_file()), None
    )
    if written is None:
        return
    try:
        model = read_config(written / "config.yaml").model
    except UserError:
        return  # of another version; the weights themselves say whether they fit
    wanted = differing(config.model, model)
    if wanted:
        yield f"stage.start_from={given}: its model is another one than this stage's. Add {' '.join(wanted)}"


def differing(model: ModelConfig, other: ModelConfig) -> list[str]:
    """The overrides that make `other` of `model`, but for what may change from stage to stage."""
    mine, theirs = dict(_options(asdict(model))), dict(_options(asdict(other)))
    apart = [name for name in mine if mine[name] != theirs[name] and name not in FREE]
    if not (model.glyph_heads or other.glyph_heads):
        apart = [name for name in apart if name != OF_GLYPHS]
    return [f"model.{name}={_typed(theirs[name])}" for name in apart]


def _options(section: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, dict):
            yield from _options(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _typed(value: Any) -> str:
    """As it is typed on a command line."""
    if isinstance(value, list):
        return f"[{','.join(map(_typed, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
