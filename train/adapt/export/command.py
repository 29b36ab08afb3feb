"""One export, whole or not at all: written beside its place, then renamed."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from train.adapt.export.config import ExportConfig
from train.config import Config
from train.find_run import locate, read_config
from train.run_folder import written_whole

if TYPE_CHECKING:
    from train.model.optical import OpticalModel


def main(config: ExportConfig) -> None:
    """Writes, and says what came of it."""
    from parallel.topology import Topology, start, stop

    found = locate(Path(config.checkpoint))
    run = read_config(found.folder / "config.yaml")
    if choice := found.choice():
        print(choice, file=sys.stderr)
    start(Topology(), seed=0)
    try:
        with written_whole(Path(config.to)) as working:
            told = _merged(config, run, working) if config.merge else _adapter(config, run, working)
    finally:
        stop()
    print(told)


def factored(checkpoint: Path, run: Config) -> "OpticalModel":
    """The run's model with its factors around their base, in one process."""
    from data_pipeline.tokenizer import load_tokenizer
    from train.model.optical import OpticalModel, build
    from train.start import load_whole

    model = build(run.model, load_tokenizer(run.data.tokenizer).image, seed=run.seed)
    assert isinstance(model, OpticalModel)
    load_whole(run, locate(checkpoint).checkpoints, model)
    return model.eval()


def _adapter(config: ExportConfig, run: Config, working: Path) -> str:
    from train.adapt.export.peft_format import write_adapter

    count, size = write_adapter(working, factored(Path(config.checkpoint), run), run, config)
    return (
        f"{config.to}: factors of {count} layers, {size / 1e6:.2f} MB; PeftModel.from_pretrained(base, {str(config.to)!r}) puts "
        "them on"
    )


def _merged(config: ExportConfig, run: Config, working: Path) -> str:
    from train.adapt.export.merge import undone
    from train.remake import weights as files

    worst = undone(factored(Path(config.checkpoint), run))
    stored = files.read(Path(config.checkpoint), run)
    files.write(
        working,
        Path(config.to),
        stored,
        stored.weights,
        run,
        run.model,
        stage="merged",
        quantize=run.quantize,
    )
    return (
        f"{config.to}: a run with the factors worked in; taken off again, they give the base back to {worst:.0e} of its largest "
        "weight"
    )
