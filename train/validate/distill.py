"""Distillation that cannot work, whatever the files are: nobody who teaches, nothing that is asked, both in a pipeline."""

from collections.abc import Iterator

from conf import rules
from train.config import Config, DistillConfig

DIVERGENCES = ("forward_kl", "reverse_kl", "jsd")
DISTANCES = ("mse", "cosine")
WEIGHTS = ("weight", "next_token", "hidden", "features")


def distill_faults(config: Config) -> Iterator[str]:
    """A sentence for every impossible value of `config.distill`, without a look at any file."""
    distill = config.distill
    yield from rules.one_of("distill.divergence", distill.divergence, DIVERGENCES)
    yield from rules.one_of("distill.distance", distill.distance, DISTANCES)
    yield from rules.positive("distill", distill, "temperature")
    yield from rules.at_least("distill.top_k", distill.top_k, 0)
    for name in WEIGHTS:
        yield from rules.at_least(f"distill.{name}", getattr(distill, name), 0)
    if not 0 < distill.mixture < 1:
        yield f"distill.mixture={distill.mixture}: both sides need a share; choose one between 0 and 1, such as 0.5."
    yield from _source(distill)
    if distill.teacher is not None and config.parallel.pipeline > 1:
        yield (
            f"distill.teacher={distill.teacher} parallel.pipeline={config.parallel.pipeline}: a teacher runs along where its "
            "student is whole. Write its predictions first (python -m train.cache_teacher) and choose distill=cached "
            "distill.cache=FOLDER, or parallel.pipeline=1."
        )


def _source(distill: DistillConfig) -> Iterator[str]:
    """Who teaches, and whether anything is asked."""
    asked = [
        f"distill.{name}={getattr(distill, name)}"
        for name in ("weight", "hidden", "features")
        if getattr(distill, name) > 0
    ]
    named = [
        f"distill.{name}={getattr(distill, name)}"
        for name in ("teacher", "cache")
        if getattr(distill, name) is not None
    ]
    if len(named) == 2:
        yield f"{' '.join(named)}: one teacher teaches. Choose distill.cache=null, or distill.teacher=null."
    elif asked and not named:
        yield (
            f"{asked[0]}: there is no teacher. Name a run, distill.teacher=runs/NAME, or what one told, distill=cached "
            "distill.cache=FOLDER; or choose distill=none."
        )
    elif named and not asked:
        yield f"{named[0]}: nothing is asked of it. Choose distill=logits, or distill.weight=1."
    if distill.cache is not None and (distill.hidden > 0 or distill.features > 0):
        yield (
            f"distill.cache={distill.cache}: it holds predictions, no features. Choose distill.hidden=0 distill.features=0, or "
            "distill.teacher=RUN in its place."
        )
    if distill.teacher_modes and distill.teacher is None:
        yield f"distill.teacher_modes={distill.teacher_modes}: no teacher runs along. Name one: distill.teacher=runs/NAME."
