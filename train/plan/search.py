"""The fastest layouts that fit, out of all that train would accept; and what would make one fit that does not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product

from conf.errors import ConfigError
from train.config import Config, ParallelConfig
from train.plan.config import PlanConfig
from train.plan.layout import Plan, estimate
from train.plan.pieces import DENSE, EMBEDDING, EXPERTS, HEAD, WINDOW, Pieces
from train.validate import validate

BEST = 10
_MICRO_BATCHES = (1, 2, 4, 8, 16)
_VIRTUAL = (1, 2, 3, 4)
_RECOMPUTE = ("none", "selective", "full")


@dataclass(frozen=True)
class Proposal:
    """A layout, as overrides that differ from what was asked, and its plan."""

    overrides: list[str]
    plan: Plan


def search(config: PlanConfig, pieces: Pieces, model_flops: float, tell: Callable[[int, int], None]) -> list[Proposal]:
    """The fastest that fit, at most BEST, the best of each way to cut the model. `tell` hears (layouts looked at, of how many)."""
    found: dict[tuple[object, ...], Proposal] = {}
    every = list(_accepted(config))
    for number, candidate in enumerate(every):
        tell(number, len(every))
        for layout in (candidate, *_balanced(candidate, config.world_size, pieces)):
            proposed = estimate(layout, config.world_size, pieces, model_flops)
            sizes = layout.parallel
            key = (sizes.tensor, sizes.pipeline, sizes.expert, sizes.virtual, sizes.encoder_stages, layout.engine.zero)
            if proposed.fits and (key not in found or proposed.seconds < found[key].plan.seconds):
                found[key] = Proposal(differences(config, layout), proposed)
    tell(len(every), len(every))
    return sorted(found.values(), key=lambda proposal: proposal.plan.seconds)[:BEST]


def remedies(config: PlanConfig, pieces: Pieces, model_flops: float) -> list[Proposal]:
    """Changes that make `config` fit, the fastest first: smaller micro-batches, with more computed again, or one other thing."""
    sizes, engine, data = config.parallel, config.engine, config.data
    changed = [
        *(
            replace(config, engine=replace(engine, recompute=mode), data=replace(data, micro_batch=rows))
            for mode, rows in product(_RECOMPUTE, {data.micro_batch, *(few for few in _MICRO_BATCHES if few < data.micro_batch)})
        ),
        *(replace(config, engine=replace(engine, zero=stage)) for stage in (2, 3)),
        replace(config, engine=replace(engine, offload=True)),
        replace(config, engine=replace(engine, precision="bf16")),
        *(
            replace(config, parallel=replace(sizes, decoder_layers=[], **{name: getattr(sizes, name) * factor}))
            for name, factor in product(("tensor", "pipeline", "expert"), (2, 4, 8))
        ),
    ]
    fitting = []
    for layout in changed:
        overrides = differences(config, layout)
        if overrides and _accepts(layout, config.world_size):
            # another number format is another recording
            own = pieces if layout.engine.precision == engine.precision else Pieces(layout, pieces.device)
            proposed = estimate(layout, config.world_size, own, model_flops)
            if proposed.fits:
                fitting.append(Proposal(overrides, proposed))
    return sorted(fitting, key=lambda proposal: proposal.plan.seconds)


def differences(before: Config, after: Config) -> list[str]:
    """The overrides that turn one layout into the other."""
    sections = ("parallel", "engine", "data")
    return [
        f"{section}.{name}={_written(value)}"
        for section in sections
        for name, value in vars(getattr(after, section)).items()
        if value != getattr(getattr(before, section), name)
    ]


def _written(value: object) -> str:
    return str(value).replace(" ", "").lower() if isinstance(value, bool | list) else str(value)


def _accepted(config: PlanConfig) -> Iterator[PlanConfig]:
    """Every layout that train would not refuse."""
    for sizes in _sizes(config):
        for zero, recompute, rows in product((1, 2, 3), _RECOMPUTE, _MICRO_BATCHES):
            engine = replace(config.engine, zero=zero, recompute=recompute)
            layout = replace(config, parallel=sizes, engine=engine, data=replace(config.data, micro_batch=rows))
            if (zero == 1 or sizes.pipeline == 1) and _accepts(layout, config.world_size):
                yield layout


def _sizes(config: PlanConfig) -> Iterator[ParallelConfig]:
    """Sizes that could be: tensor groups within a node, as many stages as there are things to put on them."""
    world, decoder, node = config.world_size, config.model.decoder, config.device.ranks_per_node
    experts = _divisors(decoder.experts) if decoder.dense_layers < decoder.layers else [1]
    for tensor in _divisors(node):
        stages = [size for size in _divisors(world) if size <= decoder.layers + 2]
        for pipeline, own, virtual, expert in product(stages, range(3), _VIRTUAL, experts):
            whole = world % (tensor * pipeline) == 0 and own < pipeline + (own == 0)
            if whole and not (virtual > 1 and (own or pipeline == 1)):
                yield replace(
                    config.parallel,
                    tensor=tensor,
                    pipeline=pipeline,
                    expert=expert,
                    virtual=virtual,
                    encoder_stages=own,
                    decoder_layers=[],
                )


def _accepts(layout: Config, world: int) -> bool:
    try:
        validate(layout, world, files=False)
    except ConfigError:
        return False
    return True


def _balanced(layout: PlanConfig, world: int, pieces: Pieces) -> Iterator[PlanConfig]:
    """`layout` with decoder_layers that take equally long on every stage, encoder and head counted, if that is another layout."""
    sizes, decoder = layout.parallel, layout.model.decoder
    holders = sizes.pipeline - sizes.encoder_stages
    if holders < 2 or sizes.virtual > 1:
        return

    def seconds(name: str) -> float:
        cost = pieces.scaled(name, sizes, layout.engine.recompute, layout.data.micro_batch).cost
        return cost.forward.seconds + cost.backward.seconds

    layers = [seconds(DENSE if layer < decoder.dense_layers else EXPERTS) for layer in range(decoder.layers)]
    first = 0.0 if sizes.encoder_stages else seconds(WINDOW) + seconds(EMBEDDING)
    counts = shares(layers, holders, first, seconds(HEAD))
    other = replace(layout, parallel=replace(sizes, decoder_layers=counts))
    if _accepts(other, world):
        yield other


def shares(layers: list[float], holders: int, first: float, last: float) -> list[int]:
    """Numbers of consecutive layers for each of `holders` stages, so that the slowest is as fast as can be.

    layers: seconds of each; first, last: what the first and the last stage take besides.
    """
    least, most = 0.0, sum(layers) + first + last
    best = _filled(layers, holders, first, last, most)
    for _ in range(20):
        middle = (least + most) / 2
        counts = _filled(layers, holders, first, last, middle)
        if counts is None:
            least = middle
        else:
            best, most = counts, middle
    assert best is not None
    return best


def _filled(layers: list[float], holders: int, first: float, last: float, limit: float) -> list[int] | None:
    """Stage after stage filled from the end to `limit`; None where some layers are left over."""
    counts, place = [], len(layers)
    for stage in reversed(range(holders)):
        used = (last if stage == holders - 1 else 0.0) + (first if stage == 0 else 0.0)
        count = 0
        while place > 0 and used + layers[place - 1] <= limit:
            place, count, used = place - 1, count + 1, used + layers[place - 1]
        if used > limit:
            return None
        counts.append(count)
    return counts[::-1] if place == 0 else None


def _divisors(whole: int) -> list[int]:
    return [number for number in range(1, whole + 1) if whole % number == 0]
