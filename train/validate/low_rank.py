"""Low-rank factors that cannot work: ranks that do not fit a layer, layers that cannot carry them, bases that cannot be packed."""

from collections.abc import Iterator

from conf import rules
from conf.errors import ConfigError
from train.config import Config
from train.targets import Target, chosen, matches, targets_of

BASES = ("as_is", "nf4")
BLOCK = 64  # inputs that share a scale in a packed base (train/transform/nf4.py)
TIED = ("decoder.embedding.word_embeddings", "decoder.output_layer")


def low_rank_faults(config: Config) -> Iterator[str]:
    """A sentence for every impossible value of `config.tune` where factors are concerned."""
    tune = config.tune
    yield from rules.one_of("tune.base", tune.base, BASES)
    if not tune.has_factors:
        if tune.base != "as_is":
            yield f"tune.base={tune.base}: packed weights are frozen, and tune.kind={tune.kind} has no factors. Choose tune=qlora, or tune.base=as_is."
        return
    yield from rules.positive("tune", tune, "alpha")
    if not 0 <= tune.dropout < 1:
        yield f"tune.dropout={tune.dropout}: choose 0 to below 1."
    try:
        targets = chosen(config.model, tune.targets, "tune.targets")
    except ConfigError as error:
        yield str(error)
        return
    yield from _ranks(config, targets)
    yield from _tied(config, targets)
    yield from _dropout(config, targets)
    if tune.base == "nf4":
        yield from _packed(config, targets)


def _ranks(config: Config, targets: list[Target]) -> Iterator[str]:
    tune = config.tune
    known = targets_of(config.model)
    for name in tune.ranks:
        if not any(matches(target.name, name) for target in known):
            yield f"tune.ranks: no layer is named {name}.{rules.meant(name, [target.name for target in known])}"
    for option, rank in {
        "tune.rank": tune.rank,
        **{f"tune.ranks.{name}": rank for name, rank in tune.ranks.items()},
    }.items():
        if rank < 1:
            yield f"{option}={rank}: choose 1 or more; a layer without factors is left out of tune.targets."
    for target in targets:
        own = [
            (f"tune.ranks.{name}", rank) for name, rank in tune.ranks.items() if matches(target.name, name)
        ]
        option, rank = own[-1] if own else ("tune.rank", tune.rank)
        most = min(target.outputs, target.inputs)
        if rank > most:
            yield (
                f"{option}={rank}: {target.name} is {target.outputs} x {target.inputs}, and factors of that rank say no more than "
                f"the weight itself. Choose {option}={max(most // 2, 1)} or less."
            )
            return


def _tied(config: Config, targets: list[Target]) -> Iterator[str]:
    both = [target.name for target in targets if target.name in TIED]
    if config.model.decoder.tied_embeddings and both:
        yield (
            f"tune.targets={config.tune.targets}: {both[0]} is one matrix with the other end of the decoder "
            "(model.decoder.tied_embeddings=true), which would not see its factors. Leave embedding and head out."
        )


def _dropout(config: Config, targets: list[Target]) -> Iterator[str]:
    """What factors read can be dropped where the weight is not formed."""
    tune = config.tune
    if not tune.dropout:
        return
    formed = [target.name for target in targets if target.kind != "linear"]
    if formed:
        yield (
            f"tune.dropout={tune.dropout}: {formed[0]} is no plain linear layer; there, factors are part of a weight and read nothing "
            "by themselves. Choose tune.dropout=0, or other tune.targets."
        )
    for option, used in (
        ("prune.kind", config.prune.kind != "none"),
        ("quantize.bits", config.quantize.bits > 0),
    ):
        if used:
            yield f"tune.dropout={tune.dropout}: with {option} the weight is formed with its factors. Choose tune.dropout=0."


def _packed(config: Config, targets: list[Target]) -> Iterator[str]:
    if config.stage.start_from is None:
        yield "tune.base=nf4: packed weights are in no checkpoint but the one they came from. Choose stage.start_from=runs/NAME."
    if config.tune.train:
        yield f"tune.base=nf4: packed weights do not train, and tune.train={config.tune.train} names some. Choose tune.train=[]."
    if config.engine.zero == 3:
        yield "tune.base=nf4: packed weights are whole on every data rank, which engine.zero=3 is meant to avoid. Choose engine.zero=2."
    ranks = config.parallel.tensor
    for target in targets:
        if target.kind not in ("linear", "experts"):
            yield f"tune.base=nf4: packs matrices, and {target.name} is none. Leave it out of tune.targets, or choose tune.base=as_is."
            return
        inputs = target.inputs // (ranks if target.split == "inputs" else 1)
        if ranks > 1 and inputs % BLOCK:
            yield (
                f"tune.base=nf4 with parallel.tensor={ranks}: a rank's {inputs} inputs of {target.name} are not whole blocks of {BLOCK}, "
                "so that ranks would round otherwise than one process does. Choose parallel.tensor=1, or tune.base=as_is."
            )
            return
