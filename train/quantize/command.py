"""One rounding, whole or not at all."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from train.config import Config
from train.find_run import locate, read_config
from train.quantize.config import RoundConfig, as_trained, settings_of
from train.run_folder import written_whole

if TYPE_CHECKING:
    from data_pipeline.tokenizer import Tokenizer
    from train.model.optical import OpticalModel
    from train.quantize.grid import Rounded


def main(config: RoundConfig) -> None:
    """Rounds, writes, and says what came of it."""
    from parallel.topology import Topology, start, stop

    start(Topology(), seed=0)
    try:
        with written_whole(Path(config.to)) as working:
            notes = _written(config, working)
    finally:
        stop()
    for note in notes[:-1]:
        print(f"note: {note}", file=sys.stderr)
    print(notes[-1])


@dataclass(frozen=True)
class Loaded:
    """A run's model with its factors and masks in its weights, and what is known about it."""

    model: "OpticalModel"
    tokenizer: "Tokenizer"
    run: Config
    checkpoint: Path


def load(config: RoundConfig) -> Loaded:
    """The newest checkpoint of a run; in its chains what it was trained to be rounded to, where that is what is asked."""
    from data_pipeline.tokenizer import load_tokenizer
    from parallel import checkpoint
    from parallel.device import device
    from parallel.layers import fold, take_off
    from train.model.optical import OpticalModel, build
    from train.start import FOLDED, load_whole

    found = locate(Path(config.checkpoint))
    run = read_config(found.folder / "config.yaml")
    folder = checkpoint.require(found.checkpoints)
    tokenizer = load_tokenizer(run.data.tokenizer)
    model = build(run.model, tokenizer.image, device=device(), seed=run.seed)
    assert isinstance(model, OpticalModel)
    load_whole(run, folder, model)
    fold(model, FOLDED)
    if not as_trained(config, run):
        take_off(model, ("quantize",))
    return Loaded(model.eval(), tokenizer, run, folder)


def rounded(config: RoundConfig, loaded: Loaded) -> "dict[str, Rounded]":
    """What is stored of each weight; the model has the rounded values afterwards."""
    from train.quantize.grid import converted, settle
    from train.remake.pages import batches
    from train.targets import chosen
    from train.transform.attach import attach_rounding
    from train.transform.sites import sites

    if as_trained(config, loaded.run):
        return converted(loaded.model)
    settings = settings_of(config, loaded.run)
    here = sites(loaded.model)
    wanted = {
        target.name: here[target.name]
        for target in chosen(loaded.run.model, settings.targets, "quantize.targets")
    }
    if config.method == "nearest":
        for site in wanted.values():
            attach_rounding(site, replace(settings, activation_bits=0))
        return converted(loaded.model)
    from train.quantize.methods import by_awq, by_gptq
    from train.quantize.record import record
    from train.transform.rounding import Rounding

    pages = batches(config.data, config.pages, config.batch_size, loaded.run, loaded.tokenizer)
    inputs = record(loaded.model, wanted, pages, config.rows)
    method = by_awq if config.method == "awq" else by_gptq
    rounding = Rounding(settings.bits, settings.group, settings.symmetric)
    found = {name: method(site, rounding, inputs[name]) for name, site in wanted.items()}
    settle(loaded.model, found)
    return found


def _written(config: RoundConfig, working: Path) -> list[str]:
    loaded = load(config)
    found = rounded(config, loaded)
    if config.form == "run":
        from train.quantize.write import write_run

        return write_run(working, config, loaded, found)
    from train.quantize.released import write_packed  # loads torchao as well, which is silent by now

    return write_packed(working, config, loaded, found)
