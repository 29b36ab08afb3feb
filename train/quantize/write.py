"""Rounded weights as a run folder: values in the run's own format, which every command and stage takes."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from train.config import QuantizeConfig
from train.quantize.config import RoundConfig, settings_of
from train.quantize.grid import Rounded
from train.remake import weights as files
from train.run_folder import write_text

if TYPE_CHECKING:
    from train.quantize.command import Loaded

FACTS = "rounding.json"  # in the run's folder: how its weights were rounded


def write_run(
    working: Path, config: RoundConfig, loaded: "Loaded", found: Mapping[str, Rounded]
) -> list[str]:
    """Fills `working`, which becomes the run `config.to`; notes, the last one the result."""
    settings, target = settings_of(config, loaded.run), Path(config.to)
    stored = files.Stored(loaded.checkpoint, {}, files.carried_in(loaded.checkpoint))
    files.write(working, target, stored, files.weights_of(loaded.model), loaded.run, loaded.run.model)
    write_text(
        working / FACTS, json.dumps({"quantize": asdict(settings), "of": str(loaded.checkpoint)}, indent=2)
    )
    before, after = sizes(found, settings)
    return [
        f"{target}: {len(found)} weights of {loaded.checkpoint} have rounded values, which packed (form=released) take "
        f"{after / 1e6:.2f} MB in the place of {before / 1e6:.2f} MB"
    ]


def sizes(found: Mapping[str, Rounded], settings: QuantizeConfig) -> tuple[int, int]:
    """Bytes of the rounded weights in fp32, and of their integers and scales."""
    numbers = sum(value.used.numel() for value in found.values())
    rows = sum(value.used.numel() // value.used.shape[-1] for value in found.values())
    groups = numbers // settings.group if settings.group else rows
    return 4 * numbers, numbers * settings.bits // 8 + 4 * groups
