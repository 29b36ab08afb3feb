"""One surgery, whole or not at all: read, weighed, cut or grown, written beside its place, then renamed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from conf.compose import FOLDER, compose
from train.config import Config, ModelConfig
from train.find_run import FoundRun, locate, read_config
from train.run_folder import written_whole
from train.surgery.config import SurgeryConfig, asked
from train.validate.start import differing

if TYPE_CHECKING:
    from torch import Tensor

    from train.surgery.calibration import Recorder
    from train.surgery.importance import Importance
    from train.surgery.units import Weights


def main(config: SurgeryConfig) -> None:
    """Does what is asked, and says what came of it and how to go on."""
    from parallel.topology import Topology, start, stop

    found = locate(config.source, "from")
    run = read_config(found.folder / "config.yaml")
    start(Topology(), seed=config.seed)
    try:
        with written_whole(Path(config.to)) as working:
            before, after = _operate(config, run, working)
    finally:
        stop()
    _tell(config, found, run.model, before, after)


@dataclass(frozen=True)
class Size:
    """A model and the number of its parameters."""

    model: ModelConfig
    parameters: int


def _operate(config: SurgeryConfig, run: Config, working: Path) -> tuple[Size, Size]:
    """Fills `working` with the run; sizes before and after."""
    from train.remake import weights as files

    stored = files.read(config.source, run)
    before = Size(run.model, files.parameters(list(stored.weights.values())))
    weights, model = operated(config, stored.weights, run)
    files.write(working, Path(config.to), stored, weights, run, model)
    return before, Size(model, files.parameters(list(weights.values())))


def operated(
    config: SurgeryConfig, weights: "dict[str, Tensor]", run: Config
) -> "tuple[dict[str, Tensor], ModelConfig]":
    """The operations that are asked for, in their order: the weights and the model after them."""
    from train.surgery.factorize import FACTORED, factorize
    from train.surgery.grow import Growth, grow
    from train.surgery.prune import prune
    from train.surgery.upcycle import upcycle

    model, growth = run.model, Growth(config.new_layers, config.noise, config.seed)
    if asked(config.prune):
        weights, model = prune(weights, model, config.prune, _importance(config, weights, model, run))
    if config.upcycle.experts is not None:
        weights, model = upcycle(weights, model, config.upcycle, growth)
    weights, model = grow(weights, model, config.grow, growth)
    if asked(config.factorize):
        seen = _look(config, weights, model, run, FACTORED) if config.importance == "activations" else None
        weights, model = factorize(weights, model, config.factorize, seen.products() if seen else {})
    return weights, model


def _importance(config: SurgeryConfig, weights: "Weights", model: ModelConfig, run: Config) -> "Importance":
    from train.surgery.calibration import importance_of
    from train.surgery.importance import by_magnitude

    if config.importance == "magnitude":
        return by_magnitude(model, weights)
    return importance_of(model, weights, _look(config, weights, model, run))


def _look(
    config: SurgeryConfig, weights: "Weights", model: ModelConfig, run: Config, whole: Sequence[str] = ()
) -> "Recorder":
    """Pages in the model of these weights. whole: ends of the keys of matrices whose inputs are multiplied with each other."""
    from data_pipeline.tokenizer import load_tokenizer
    from train.remake.pages import batches
    from train.remake.weights import module_of
    from train.surgery.calibration import look

    tokenizer = load_tokenizer(run.data.tokenizer)
    return look(
        module_of(model, weights, tokenizer.image),
        batches(config.data, config.pages, config.batch_size, run, tokenizer),
        whole,
    )


def _tell(config: SurgeryConfig, found: FoundRun, model: ModelConfig, before: Size, after: Size) -> None:
    """What changed, and the command of the next stage."""
    if choice := found.choice("from"):
        print(choice)
    for option, (old, new) in changed(model, after.model).items():
        print(f"{option}: {old} → {new}")
    share = after.parameters / before.parameters
    print(
        f"{config.to}: {after.parameters / 1e6:.2f} M parameters, {100 * share:.1f} % of the {before.parameters / 1e6:.2f} M of {found.folder}"
    )
    smaller = after.parameters < before.parameters
    stage = f"stage=distill distill.teacher={found.folder}" if smaller else "stage=pretrain"
    print(f"next: python -m train {stage} from={config.to} {' '.join(overrides_of(after.model))}")


def changed(before: ModelConfig, after: ModelConfig) -> dict[str, tuple[object, object]]:
    """Option → its value before and after, of those that differ."""
    found: dict[str, tuple[object, object]] = {}
    for section in ("encoder", "decoder"):
        old, new = asdict(getattr(before, section)), asdict(getattr(after, section))
        found |= {f"model.{section}.{name}": (old[name], new[name]) for name in old if old[name] != new[name]}
    return found


def overrides_of(model: ModelConfig) -> list[str]:
    """What to type after `python -m train` for this model: its group, where there is one of its name, and what differs from it."""
    known = (FOLDER / "model" / f"{model.name}.yaml").is_file()
    group = [f"model={model.name}"] if known else []
    return [*group, *differing(compose("config", Config, group).model, model)]
