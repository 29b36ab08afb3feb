"""Optimizers, schedules and first weights that cannot be."""

import importlib.util
from collections.abc import Iterator

from conf import rules
from train.config import Config, OptimConfig

WHOLE = ("muon", "adafactor", "galore")  # look at whole matrices
LIBRARIES = {"adamw_8bit": "bitsandbytes", "lion_8bit": "bitsandbytes", "schedule_free": "schedulefree"}
NAMES = ("adamw", "lion", "lomo", *LIBRARIES, *WHOLE)
NEAREST = {"muon": "adamw", "adafactor": "adamw_8bit", "galore": "adamw_8bit", "schedule_free": "adamw"}


def optim_faults(config: Config, world: int) -> Iterator[str]:
    """A sentence for every impossible value of `config.optim`, and for what does not go together with
    `config.engine` on `world` processes."""
    optim = config.optim
    yield from rules.one_of("optim.name", optim.name, NAMES)
    yield from _values(optim)
    yield from _schedule(optim)
    yield from _layout(config)
    if optim.name == "lomo":
        yield from _fused(config, world)
    library = LIBRARIES.get(optim.name)
    if library and importlib.util.find_spec(library) is None:
        yield f"optim.name={optim.name}: {library} is not installed. Install it (pip install {library}), or choose optim=adamw."


def init_faults(config: Config) -> Iterator[str]:
    """A sentence for every impossible value of `config.init`."""
    init = config.init
    yield from rules.one_of("init.kind", init.kind, ["scaled", "normal", "kaiming", "xavier"])
    yield from rules.one_of("init.residual", init.residual, ["zero", "scaled", "depth", "plain"])
    yield from rules.positive("init", init, "std")


def _values(optim: OptimConfig) -> Iterator[str]:
    yield from rules.positive("optim", optim, "lr eps newton_schulz_steps update_clip rank refresh_every scale")
    yield from rules.at_least("optim.weight_decay", optim.weight_decay, 0)
    if len(optim.betas) != 2 or not all(0 <= beta < 1 for beta in optim.betas):
        yield f"optim.betas={optim.betas}: give two numbers from 0 to below 1, such as optim.betas=[0.9,0.95]."
    if not 0 <= optim.momentum < 1:
        yield f"optim.momentum={optim.momentum}: give a number from 0 to below 1, such as optim.momentum=0.95."
    if not optim.beta2_decay <= 0:
        yield f"optim.beta2_decay={optim.beta2_decay}: give a power of 0 or below, such as optim.beta2_decay=-0.8."
    if optim.name == "schedule_free" and optim.betas[:1] == [0]:
        yield "optim.betas: schedule_free averages by the first of them, which cannot be 0. Choose optim.betas=[0.9,0.999]."


def _schedule(optim: OptimConfig) -> Iterator[str]:
    yield from rules.one_of("optim.schedule", optim.schedule, ["cosine", "step", "constant"])
    yield from rules.at_least("optim.warmup_steps", optim.warmup_steps, 0)
    yield from rules.fraction("optim.final_fraction", optim.final_fraction)
    yield from rules.fraction("optim.step_factor", optim.step_factor)
    places = optim.step_milestones
    if places != sorted(places) or not all(0 <= place <= 1 for place in places):
        yield f"optim.step_milestones={places}: give rising fractions of the run, such as [0.6,0.9]."
    if optim.name == "schedule_free" and optim.schedule != "constant":
        yield (
            f"optim.schedule={optim.schedule}: schedule_free takes an average in the place of a falling rate. Choose "
            "optim.schedule=constant, or optim=adamw."
        )


def _fused(config: Config, world: int) -> Iterator[str]:
    """What needs gradients that stay, which a step in the backward does not leave."""
    engine, data = config.engine, config.data
    wrong = {
        f"engine.zero={engine.zero}": (engine.zero != 1, "engine.zero=1"),
        f"engine.clip={engine.clip}": (engine.clip > 0, "engine.clip=0"),
        "engine.offload=true": (engine.offload, "engine.offload=false"),
        f"parallel.pipeline={config.parallel.pipeline}": (config.parallel.pipeline > 1, "parallel.pipeline=1"),
    }
    for setting, (is_wrong, choice) in wrong.items():
        if is_wrong:
            yield f"{setting}: optim.name=lomo steps in the backward and no gradient stays. Choose {choice}, or optim=adamw_8bit."
    copies = max(world // max(config.parallel.tensor, 1), 1)
    if data.global_batch != data.micro_batch * copies:
        yield (
            f"data.micro_batch={data.micro_batch}: optim.name=lomo steps in the backward and cannot add up micro-batches. Choose "
            f"data.micro_batch={max(data.global_batch // copies, 1)}, or optim=adamw_8bit."
        )


def _layout(config: Config) -> Iterator[str]:
    """What ZeRO leaves of a matrix must be enough for the rule."""
    name, engine = config.optim.name, config.engine
    other = f"or optim={NEAREST.get(name)}"
    if name in WHOLE and engine.zero == 3:
        yield (
            f"engine.zero=3: optim.name={name} looks at whole matrices, and stage 3 leaves a stripe of each to every rank. "
            f"Choose engine.zero=2, {other}."
        )
    if name in WHOLE and engine.offload:
        yield (
            f"engine.offload=true: optim.name={name} multiplies whole matrices, far too slowly on the host. Choose "
            f"engine.offload=false, {other}."
        )
    if name == "schedule_free" and engine.zero == 3:
        yield (
            "engine.zero=3: optim.name=schedule_free counts its steps by the parameter group, and stage 3 steps groups in "
            f"parts. Choose engine.zero=2, {other}."
        )
