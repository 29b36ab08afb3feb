"""Layouts that cannot work: sizes that do not divide the processes, the model or the batch, and choices that exclude
each other.
"""

import math
from collections.abc import Iterator

from conf import rules
from conf.errors import ConfigError
from parallel.errors import ParallelError
from parallel.options import EngineOptions
from parallel.options import check as check_engine
from parallel.topology import Topology
from train.config import Config, ParallelConfig

ENCODERS = ("auto", "split", "replicate")
RECOMPUTE = ("none", "selective", "full")


def layout_faults(config: Config, world: int) -> Iterator[str]:
    """A sentence for everything that `config.parallel` and `config.engine` ask and `world` processes cannot give."""
    sizes = config.parallel
    yield from rules.one_of("parallel.encoder", sizes.encoder, ENCODERS)
    yield from rules.one_of("engine.recompute", config.engine.recompute, RECOMPUTE)
    impossible = [
        f"parallel.{name}={getattr(sizes, name)} is not a size: choose parallel.{name}=1 or more."
        for name in ("tensor", "pipeline", "expert", "virtual")
        if getattr(sizes, name) < 1
    ]
    if impossible:
        yield from impossible
        return
    copies = world // (sizes.tensor * sizes.pipeline)
    fits = not world % (sizes.tensor * sizes.pipeline)
    yield from _world(sizes, world)
    yield from _engine(config, copies if fits else sizes.expert)
    yield from shared_out_faults(config)
    yield from _stages(config)
    if fits:
        yield from _batch(config.data.global_batch, config.data.micro_batch, copies)
        yield from _turns(config, copies)


def shared_out_faults(config: Config) -> Iterator[str]:
    """A sentence for every width and count of the model that its ranks cannot share out."""
    yield from _tensor(config)
    yield from _experts(config)


def _world(sizes: ParallelConfig, world: int) -> Iterator[str]:
    """The processes are whole copies of the model, and each stage has ranks for its experts."""
    model = sizes.tensor * sizes.pipeline
    if world % model == 0:
        try:
            Topology(sizes.tensor, sizes.pipeline, sizes.expert, world // model).check()
        except ParallelError as error:
            yield str(error)
        return
    asked = " x ".join(f"parallel.{name}={getattr(sizes, name)}" for name in ("tensor", "pipeline")
                       if getattr(sizes, name) > 1)  # fmt: skip
    started = "1 process was" if world == 1 else f"{world} processes were"
    tensor, pipeline = _nearest_sizes(sizes, world)
    yield (
        f"{asked}: {started} started, and a copy of the model takes {model}. Either start a multiple of {model} processes "
        f"(torchrun --nproc-per-node={math.ceil(world / model) * model} -m train …), or choose parallel.tensor={tensor} "
        f"parallel.pipeline={pipeline}."
    )


def _nearest_sizes(sizes: ParallelConfig, world: int) -> tuple[int, int]:
    """The (tensor, pipeline) nearest to those asked for, neither above it, whose product divides `world`."""
    possible = [
        (tensor, pipeline)
        for tensor in range(1, min(sizes.tensor, world) + 1)
        for pipeline in range(1, min(sizes.pipeline, world // tensor) + 1)
        if world % (tensor * pipeline) == 0
    ]
    return max(possible, key=lambda pair: (pair[0] * pair[1], pair[0]))


def _engine(config: Config, copies: int) -> Iterator[str]:
    """What the engine refuses whatever the number of processes."""
    sizes, engine = config.parallel, config.engine
    if sizes.tensor * copies % sizes.expert:
        copies = sizes.expert  # told already: here it shall not hide what else is wrong
    virtual = sizes.virtual if sizes.pipeline > 1 else 1  # told by the placement
    topology = Topology(sizes.tensor, sizes.pipeline, sizes.expert, copies, virtual)
    try:
        check_engine(topology, EngineOptions(engine.zero, engine.precision, engine.clip, engine.offload))
    except ParallelError as error:
        yield str(error)


def _tensor(config: Config) -> Iterator[str]:
    """Every width that tensor ranks share out is a multiple of them."""
    sizes, decoder, encoder = config.parallel, config.model.decoder, config.model.encoder
    if sizes.tensor == 1:
        return
    sparse = decoder.dense_layers < decoder.layers
    shared = {"model.decoder.heads": decoder.heads, "model.decoder.vocab_size": decoder.vocab_size}
    if decoder.dense_layers > 0:
        shared["model.decoder.ffn"] = decoder.ffn
    if sparse and decoder.shared_experts > 0:
        shared["model.decoder.shared_experts x expert_ffn"] = decoder.shared_experts * decoder.expert_ffn
    of_encoder = {}
    if sizes.encoder != "replicate":
        of_encoder = {f"model.encoder.{name}": getattr(encoder, name) for name in ("window_mlp", "global_mlp")}
    if sizes.encoder == "split":
        of_encoder |= {f"model.encoder.{name}": getattr(encoder, name) for name in ("window_heads", "global_heads")}
    yield from _dividing(sizes.tensor, shared, of_encoder)
    length = config.data.max_length
    if sizes.sequence and length % sizes.tensor:
        yield (
            f"data.max_length={length}: tensor ranks share out the positions of a row, and parallel.tensor={sizes.tensor} "
            f"does not divide it. Choose data.max_length={length // sizes.tensor * sizes.tensor}."
        )
    if sparse and not sizes.sequence:
        yield (
            f"parallel.sequence=false: with parallel.tensor={sizes.tensor}, layers of experts need the positions shared "
            "out. Choose parallel.sequence=true."
        )


def _dividing(tensor: int, decoder: dict[str, int], encoder: dict[str, int]) -> Iterator[str]:
    """One sentence for all widths that `tensor` does not divide, with the nearest size that divides every one."""
    widths = [width for width in (decoder | encoder).values() if width > 0]
    wrong = {name: width for name, width in (decoder | encoder).items() if width > 0 and width % tensor}
    if not wrong:
        return
    common = math.gcd(*widths)
    nearest = min(_divisors(common), key=lambda size: (abs(size - tensor), size))
    others = ""
    if list(wrong) == ["model.decoder.vocab_size"]:
        others = f", or model.decoder.vocab_size={math.ceil(decoder['model.decoder.vocab_size'] / tensor) * tensor}"
    elif set(wrong) <= set(encoder):
        heads_only = all(name.endswith("heads") for name in wrong)
        others = f", or parallel.encoder={'auto' if heads_only else 'replicate'}"
    told = ", ".join(f"{name}={width}" for name, width in wrong.items())
    yield (
        f"parallel.tensor={tensor}: does not divide {told}. The nearest that divides every width: "
        f"parallel.tensor={nearest}{others}."
    )


def _divisors(whole: int) -> list[int]:
    return [size for size in range(1, whole + 1) if whole % size == 0]


def _experts(config: Config) -> Iterator[str]:
    sizes, decoder = config.parallel, config.model.decoder
    if sizes.expert > 1 and decoder.dense_layers >= decoder.layers:
        yield (
            f"parallel.expert={sizes.expert}: no layer has experts, model.decoder.dense_layers={decoder.dense_layers} being "
            "all of them. Choose parallel.expert=1."
        )
    else:
        yield from rules.divides("parallel.expert", sizes.expert, "model.decoder.experts", decoder.experts)


def _stages(config: Config) -> Iterator[str]:
    """Whether every piece of the pipeline has something to hold."""
    from train.model.placement import parts  # the model's own rule

    if config.model.decoder.layers < 1:
        return  # told already
    try:
        parts(config.parallel, config.model.decoder.layers)
    except ConfigError as error:
        yield str(error)


def _batch(whole: int, micro: int, copies: int) -> Iterator[str]:
    """The global batch is whole micro-batches on every data-parallel copy."""
    if micro < 1 or whole < 1 or whole % (micro * copies) == 0:
        return
    unit = micro * copies
    fitting = next((size for size in range(micro, 0, -1) if whole % (size * copies) == 0), None)
    other = f", or data.micro_batch={fitting}" if fitting else ""
    yield (
        f"data.global_batch={whole}: not a multiple of data.micro_batch={micro} x {copies} data-parallel processes. "
        f"Choose data.global_batch={max(unit, round(whole / unit) * unit)}{other}."
    )


def _turns(config: Config, copies: int) -> Iterator[str]:
    """The pieces of interleaved stages take turns in rounds of as many micro-batches as there are stages."""
    sizes, whole, micro = config.parallel, config.data.global_batch, config.data.micro_batch
    if sizes.virtual == 1 or sizes.pipeline == 1 or micro < 1 or whole < 1 or whole % (micro * copies):
        return
    count, unit = whole // (micro * copies), micro * copies * sizes.pipeline
    if count % sizes.pipeline:
        fitting = next((size for size in range(micro, 0, -1) if whole % (size * copies * sizes.pipeline) == 0), None)
        other = f", or data.micro_batch={fitting}" if fitting else ""
        yield (
            f"parallel.virtual={sizes.virtual}: a step has {count} micro-batches on each copy of the model, and they must be "
            f"a multiple of parallel.pipeline={sizes.pipeline}. Choose data.global_batch="
            f"{max(unit, round(whole / unit) * unit)}{other}, or parallel.virtual=1."
        )
