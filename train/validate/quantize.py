"""Rounding and masks that cannot work: widths that do not exist, groups that do not divide, layers that do not multiply rows."""

import importlib.util
import math
from collections.abc import Iterator, Sequence

from conf import rules
from conf.errors import ConfigError
from train.config import Config
from train.targets import Target, chosen

BITS = (2, 3, 4, 8)
NEIGHBOURS = 4  # of which pattern "2:4" holds two at zero
ROWS = ("linear", "experts")  # kinds of layers that multiply rows, each a position


def quantize_faults(config: Config) -> Iterator[str]:
    """A sentence for every impossible value of `config.quantize`."""
    quantize = config.quantize
    if quantize.bits not in (0, *BITS):
        nearest = min(BITS, key=lambda bits: abs(bits - quantize.bits))
        yield f"quantize.bits={quantize.bits}: choose {', '.join(map(str, BITS))}, or 0 for none. The nearest: quantize.bits={nearest}."
        return
    if not quantize.bits:
        if quantize.activation_bits:
            yield (
                f"quantize.activation_bits={quantize.activation_bits}: weights are not rounded (quantize.bits=0). Choose "
                "quantize=int8_int4, or quantize.activation_bits=0."
            )
        return
    if importlib.util.find_spec("torchao") is None:
        yield f"quantize.bits={quantize.bits}: rounding is torchao's, which is not installed: pip install 'microfiche[quantize]', or choose quantize=none."
    yield from rules.one_of("quantize.numbers", quantize.numbers, ("int", "fp8"))
    yield from rules.one_of("quantize.scales", quantize.scales, ("dynamic", "learned"))
    if quantize.activation_bits not in (0, 8):
        yield f"quantize.activation_bits={quantize.activation_bits}: choose 8, or 0 for activations as they are."
    if quantize.numbers == "fp8":
        yield from _float8(config)
    if quantize.scales == "learned" and not quantize.symmetric:
        yield (
            "quantize.scales=learned: a zero point that is learned is no integer. Choose quantize.symmetric=true, or "
            "quantize.scales=dynamic."
        )
    yield from _with_factors(config, "quantize")
    targets = list(_targets(config, quantize.targets, "quantize.targets"))
    yield from (fault for fault in targets if isinstance(fault, str))
    found = [target for target in targets if isinstance(target, Target)]
    if quantize.activation_bits:
        yield from _rows_only(
            found, f"quantize.activation_bits={quantize.activation_bits}", "quantize.targets"
        )
    yield from _groups(config, found)


def prune_faults(config: Config) -> Iterator[str]:
    """A sentence for every impossible value of `config.prune`."""
    prune = config.prune
    yield from rules.one_of("prune.kind", prune.kind, ("none", "magnitude", "wanda"))
    yield from rules.one_of("prune.pattern", prune.pattern, ("free", "2:4"))
    if prune.kind == "none":
        return
    if not 0 < prune.sparsity < 1:
        yield f"prune.sparsity={prune.sparsity}: give a share between 0 and 1, such as prune.sparsity=0.5; prune=none for no mask."
    if prune.pattern == "2:4" and prune.sparsity != 0.5:
        yield f"prune.sparsity={prune.sparsity}: prune.pattern=2:4 holds half at zero. Choose prune.sparsity=0.5, or prune.pattern=free."
    yield from _with_factors(config, "prune")
    targets = list(_targets(config, prune.targets, "prune.targets"))
    yield from (fault for fault in targets if isinstance(fault, str))
    found = [target for target in targets if isinstance(target, Target)]
    if prune.kind == "wanda":
        yield from rules.at_least("prune.batches", prune.batches, 1, "Wanda looks at pages")
        yield from _rows_only(found, "prune.kind=wanda", "prune.targets")
    if prune.pattern == "2:4":
        odd = [target for target in found if _own_inputs(config, target) % NEIGHBOURS]
        if odd:
            yield (
                f"prune.pattern=2:4: {odd[0].name} has {_own_inputs(config, odd[0])} inputs on a rank, no multiple of "
                f"{NEIGHBOURS}. Leave it out of prune.targets, or choose prune.pattern=free."
            )


def _float8(config: Config) -> Iterator[str]:
    quantize = config.quantize
    for name, value, only in (
        ("bits", quantize.bits, 8),
        ("group", quantize.group, 0),
        ("symmetric", quantize.symmetric, True),
        ("scales", quantize.scales, "dynamic"),
    ):
        if value != only:
            yield (
                f"quantize.{name}={str(value).lower()}: quantize.numbers=fp8 has 8 bits and one dynamic scale for each output. "
                f"Choose quantize=fp8, which sets quantize.{name}={str(only).lower()}, or quantize.numbers=int."
            )


def _with_factors(config: Config, section: str) -> Iterator[str]:
    tune = config.tune
    if tune.kind in ("lora", "dora") and tune.dropout:
        yield (
            f"tune.dropout={tune.dropout}: with {section}= factors become part of the weight before it is used, and there is "
            f"nothing of their own to leave out. Choose tune.dropout=0, or {section}=none."
        )
    if tune.base == "nf4" and section == "quantize":
        yield f"tune.base=nf4: those weights are rounded already. Choose tune.base=as_is, or {section}=none."


def _targets(config: Config, names: Sequence[str], option: str) -> Iterator[Target | str]:
    """The layers, or what is wrong with their names."""
    try:
        found = chosen(config.model, names, option)
    except ConfigError as error:
        yield str(error)
        return
    shared = ("decoder.embedding.word_embeddings", "decoder.output_layer")
    for target in found:
        if config.model.decoder.tied_embeddings and target.name in shared:
            yield f"{option}: {target.name} is the same matrix as {shared[target.name == shared[0]]} (model.decoder.tied_embeddings). Leave both out."
            return
    yield from found


def _rows_only(targets: list[Target], why: str, option: str) -> Iterator[str]:
    """What is multiplied is looked at in layers that multiply rows; the output layer makes its logits block by block."""
    for target in targets:
        if target.kind not in ROWS or target.name == "decoder.output_layer":
            yield f"{why}: looks at what a layer multiplies, which {target.name} does not show. Leave it out of {option}."
            return


def _groups(config: Config, targets: list[Target]) -> Iterator[str]:
    """A group is of one rank and one row."""
    group = config.quantize.group
    if not group or not targets:
        return
    common = math.gcd(*(_own_inputs(config, target) for target in targets))
    fitting = [size for size in range(2, common + 1) if common % size == 0]
    nearest = min(fitting, key=lambda size: abs(size - group), default=0)
    for target in targets:
        inputs = _own_inputs(config, target)
        if group < 2 or inputs % group:
            ranks = "" if inputs == target.inputs else f" on each of {config.parallel.tensor} tensor ranks"
            yield (
                f"quantize.group={group}: does not divide the {inputs} inputs of {target.name}{ranks}. The nearest that divides "
                f"those of all targets: quantize.group={nearest}; 0 is one scale for each output."
            )
            return


def _own_inputs(config: Config, target: Target) -> int:
    """Inputs of a rank: of all of them, where tensor ranks share out inputs."""
    ways = config.parallel.tensor
    if target.split != "inputs" or ways < 2 or target.inputs % ways:
        return target.inputs
    encoder = config.model.encoder
    if target.name.startswith("encoder."):
        heads = encoder.window_heads if target.name.startswith("encoder.window") else encoder.global_heads
        if config.parallel.encoder == "replicate" or heads % ways:
            return target.inputs
    return target.inputs // ways
