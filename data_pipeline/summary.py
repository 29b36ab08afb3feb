"""What a build has made: the manifest of each shard set, and the table for the user."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from data_pipeline.config import BuildConfig, as_dict
from data_pipeline.manifest import Manifest
from data_pipeline.plan import ShardSet
from data_pipeline.shards import ShardDone
from data_pipeline.sources import provenance
from data_pipeline.workshop import Workshop


def manifest_of(
    config: BuildConfig, workshop: Workshop, shard_set: ShardSet, done: Sequence[ShardDone]
) -> Manifest:
    """Manifest of a finished shard set; `done` are all its shards, in order."""
    corpus = config.corpus
    refused: Counter[str] = Counter()
    for shard in done:
        refused.update(shard.refused)
    if shard_set.random_text < 1:
        for reason, count in workshop.refused.get(shard_set.split, {}).items():
            refused[f"document: {reason}"] += count
    text_bytes = sum(shard.text_bytes for shard in done)
    renderer = {
        "engine": workshop.engine.name,
        "version": workshop.engine.version,
        "size": corpus.page.size,
        "patch": corpus.page.patch,
        "vision_tokens": corpus.vision_tokens,
        "glyph_cell": corpus.page.cell,
        "font_px": shard_set.font_px or corpus.page.font_px,
        "bytes_per_vision_token": round(text_bytes / (shard_set.pages * corpus.vision_tokens), 4),
    }
    return Manifest(
        name=shard_set.name,
        split=shard_set.split,
        shards=[shard.entry for shard in done],
        refused=dict(refused),
        renderer=renderer,
        fonts=workshop.fonts.sha256,
        sources=[asdict(provenance(corpus))],
        text_bytes=text_bytes,
        config=as_dict(corpus) | {"seed": config.seed, "set": shard_set.as_dict(), "build": done[0].build},
    )


def print_summary(out: str, manifests: Sequence[Manifest], kept: int, written: int, seconds: float) -> None:
    """A table of the shard sets, what was refused and why. kept, written: shards and pages of this run."""
    print(f"\n{'shard set':28} {'pages':>8} {'MB':>8} {'bytes/token':>12}  letters")
    refused: Counter[str] = Counter()
    for manifest in manifests:
        size = sum(shard.bytes for shard in manifest.shards) / 1e6
        ratio = manifest.renderer["bytes_per_vision_token"]
        name = f"{manifest.split}/{manifest.name}"
        print(f"{name:28} {manifest.samples:8} {size:8.1f} {ratio:12.2f}  {_letters(manifest)}")
        refused.update({f"{name}: {reason}": count for reason, count in manifest.refused.items()})
    print("refused:" + ("" if refused else " nothing"))
    for reason, count in refused.most_common():
        print(f"  {count:6}  {reason}")
    speed = f", {written / seconds:.0f} pages/s" if written else ""
    print(f"{written} pages written to {out} in {seconds:.1f} s{speed}; {kept} shards kept from before")


def _letters(manifest: Manifest) -> str:
    """ "DejaVu Sans Mono 14 px": the sizes of the letters in one set."""
    sizes = manifest.renderer["font_px"]
    if isinstance(sizes, dict):
        return ", ".join(f"{family} {size:g} px" for family, size in sizes.items())
    return f"{sizes:g} px"
