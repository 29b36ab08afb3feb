"""python -m data_pipeline.build corpus=smoke out=runs/pages: documents → typeset pages → verified shards.

Runs on all cores, can be killed and started again at any time (finished shards are kept), and gives the same bytes for
the same settings on any number of processes.
"""

import hashlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_pipeline.config import BuildConfig, CorpusConfig, as_dict, check
from data_pipeline.errors import DataError
from data_pipeline.manifest import MANIFEST_NAME, Manifest
from data_pipeline.plan import ShardSet, shard_sets
from data_pipeline.render.engine import describe
from data_pipeline.shards import ShardDone, ShardJob, write_shards
from data_pipeline.sources import provenance
from data_pipeline.workshop import Workshop, open_workshop

BUILD_FORMAT = 1  # raise it when the same settings give other pages
_ENOUGH = 200  # pages after which a share of refused ones means something


def build(config: BuildConfig) -> list[Manifest]:
    """Build every shard set of `config.corpus` below `config.out`; returns their manifests.

    What is already there and intact is kept. Raises DataError for settings, documents or fonts that cannot work, and
    when a folder holds shards of other settings and `overwrite` is off.
    """
    check(config)
    workshop = open_workshop(config.corpus)
    print(describe(workshop.engine), flush=True)
    sets = shard_sets(workshop, config.seed)
    jobs = {shard_set.folder: _jobs(config, workshop, shard_set) for shard_set in sets}
    for shard_set in sets:
        _claim(Path(config.out) / shard_set.folder, jobs[shard_set.folder][0].build, config.overwrite)
    started = time.monotonic()
    every = [job for of_set in jobs.values() for job in of_set]
    done = {job.path: found for job in every if (found := ShardDone.find(job))}
    kept = len(done)
    done |= _write(config, [job for job in every if job.path not in done], every, done.values())
    manifests = []
    for shard_set in sets:
        manifest = _manifest(config, workshop, shard_set, [done[job.path] for job in jobs[shard_set.folder]], jobs[shard_set.folder][0].build)
        manifest.save(Path(config.out) / shard_set.folder)
        manifests.append(manifest)
    _print_summary(config, workshop, manifests, kept, time.monotonic() - started)
    return manifests


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    from conf.command import run

    examples = ["corpus=smoke out=runs/pages", "corpus=udhr out=runs/udhr corpus.pages=4000", "corpus=folder corpus.path=~/texts out=runs/mine"]
    return run(_run, "build", BuildConfig, argv, description="Documents → typeset pages → verified webdataset shards.", examples=examples, check=check)


def _run(config: BuildConfig) -> int:
    build(config)
    return 0


def _jobs(config: BuildConfig, workshop: Workshop, shard_set: ShardSet) -> list[ShardJob]:
    folder, corpus = Path(config.out) / shard_set.folder, config.corpus
    identity = _identity(corpus, workshop, shard_set, config.seed)
    return [
        ShardJob(folder, number, pages, corpus, shard_set, config.seed, identity)
        for number, pages in enumerate(shard_set.shards(corpus.shard_pages))
    ]


def _identity(corpus: CorpusConfig, workshop: Workshop, shard_set: ShardSet, seed: int) -> str:
    """Digest of all that decides the bytes of a set, so that shards of other settings are never taken for its own."""
    content: dict[str, Any] = {
        "format": BUILD_FORMAT, "set": shard_set.as_dict(), "seed": seed, "prompt": corpus.prompt, "shard_pages": corpus.shard_pages,
        "page": as_dict(corpus)["page"] | {"font_dirs": None}, "fonts": workshop.fonts.sha256,
        "engine": [workshop.engine.name, workshop.engine.version],
        "texts": workshop.digest(shard_set.split) if shard_set.random_text < 1 else None,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _claim(folder: Path, identity: str, overwrite: bool) -> None:
    """Make sure that `folder` holds nothing, or shards of this very build."""
    found = {_build_of(path) for path in [folder / MANIFEST_NAME, *folder.glob("shard-*.done.json")] if path.is_file()}
    if found <= {identity}:
        return
    if not overwrite:
        raise DataError(f"{folder} holds shards made with other settings: give another out=, or replace them with overwrite=true")
    for pattern in (MANIFEST_NAME, "shard-*.done.json", "shard-*.index.json", "shard-*.tar"):
        for path in folder.glob(pattern):
            path.unlink()


def _build_of(path: Path) -> str:
    """The identity in a manifest or a note; "" when it cannot be read."""
    try:
        content = json.loads(path.read_bytes())
        return str(content["config"]["build"] if path.name == MANIFEST_NAME else content["build"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _write(config: BuildConfig, jobs: list[ShardJob], every: list[ShardJob], kept: Any) -> dict[Path, ShardDone]:
    """Write the jobs that are left, with a progress bar in pages; stops above the ceiling of refused pages."""
    if not jobs:
        return {}
    from tqdm import tqdm

    refused: Counter[str] = Counter()
    for done in kept:
        refused.update(done.refused)
    workers = config.workers or len(os.sched_getaffinity(0))
    finished = sum(done.entry.samples for done in kept)
    with tqdm(total=sum(len(job.numbers) for job in every), initial=finished, unit=" pages", desc=f"{config.corpus.name}", smoothing=0.1) as bar:

        def progress(done: ShardDone) -> None:
            bar.update(done.entry.samples)
            refused.update(done.refused)
            _check_refused(config.corpus, refused, bar.n)

        return write_shards(jobs, workers, progress)


def _check_refused(corpus: CorpusConfig, refused: Counter[str], made: int) -> None:
    lost = sum(refused.values())
    if made + lost >= _ENOUGH and lost > corpus.max_refused * (made + lost):
        reasons = "; ".join(f"{reason} ({count})" for reason, count in refused.most_common(5))
        raise DataError(f"{lost} of {made + lost} pages were refused, above corpus.max_refused={corpus.max_refused}: {reasons}. "
                        "Use other fonts (corpus.page.font, corpus.page.font_dirs) or smaller letters (corpus.page.font_px), or allow more")


def _manifest(config: BuildConfig, workshop: Workshop, shard_set: ShardSet, done: list[ShardDone], identity: str) -> Manifest:
    corpus = config.corpus
    refused: Counter[str] = Counter()
    for shard in done:
        refused.update(shard.refused)
    for reason, count in workshop.refused.get(shard_set.split, {}).items():
        refused[f"document: {reason}"] += count
    text_bytes = sum(shard.text_bytes for shard in done)
    renderer = {
        "engine": workshop.engine.name, "version": workshop.engine.version, "size": corpus.page.size, "patch": corpus.page.patch,
        "vision_tokens": corpus.vision_tokens, "font_px": shard_set.font_px or corpus.page.font_px, "glyph_cell": corpus.page.cell,
        "bytes_per_vision_token": round(text_bytes / (shard_set.pages * corpus.vision_tokens), 4),
    }
    return Manifest(
        name=shard_set.name, split=shard_set.split, shards=[shard.entry for shard in done], refused=dict(refused), renderer=renderer,
        fonts=workshop.fonts.sha256, sources=[asdict(provenance(corpus))], text_bytes=text_bytes,
        config=as_dict(corpus) | {"seed": config.seed, "set": shard_set.as_dict(), "build": identity},
    )


def _print_summary(config: BuildConfig, workshop: Workshop, manifests: list[Manifest], kept: int, seconds: float) -> None:
    """A table of what there is now, and what was refused."""
    print(f"\n{'shard set':28} {'pages':>8} {'MB':>8} {'bytes/token':>12}  letters")
    for manifest in manifests:
        sizes = manifest.renderer["font_px"]
        letters = ", ".join(f"{family} {size:g} px" for family, size in sizes.items()) if isinstance(sizes, dict) else f"{sizes:g} px"
        size = sum(shard.bytes for shard in manifest.shards) / 1e6
        print(f"{manifest.split + '/' + manifest.name:28} {manifest.samples:8} {size:8.1f} {manifest.renderer['bytes_per_vision_token']:12.2f}  {letters}")
    refused: Counter[str] = Counter()
    for manifest in manifests:
        refused.update({reason: count for reason, count in manifest.refused.items() if not reason.startswith("document: ")})
    for split, reasons in workshop.refused.items():
        refused.update({f"{split} document, {reason}": count for reason, count in reasons.items()})
    print("refused: " + ("nothing" if not refused else ""))
    for reason, count in refused.most_common():
        print(f"  {count:6}  {reason}")
    pages = sum(manifest.samples for manifest in manifests)
    print(f"{pages} pages in {config.out}, {kept} shards kept from before, {seconds:.1f} s ({pages / max(seconds, 1e-3):.0f} pages/s)")


if __name__ == "__main__":
    sys.exit(main())
