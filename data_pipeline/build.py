"""python -m data_pipeline.build corpus=smoke out=runs/pages: documents, drawings, PDFs, people's own data → verified shards.

Runs on all cores, can be killed and started again at any time (finished shards are kept), and gives the same bytes for
the same settings on any number of processes. task=2 tasks=8 writes an eighth of the shards; the task that finds the
others' there, too, completes the sets.
"""

import hashlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_pipeline.config import BuildConfig, CorpusConfig, as_dict, check
from data_pipeline.errors import DataError
from data_pipeline.kinds.kind import Maker
from data_pipeline.manifest import MANIFEST_NAME, Manifest
from data_pipeline.plan import ShardSet, shard_sets
from data_pipeline.render.engine import describe
from data_pipeline.samples import SampleMaker
from data_pipeline.shards import ShardDone, ShardJob, write_shards
from data_pipeline.summary import manifest_of, print_summary, repetitions, write_refused
from data_pipeline.workshop import Workshop, open_workshop

BUILD_FORMAT = 2  # raise it when the same settings give other pages
_ENOUGH = 200  # pages after which a share of refused ones means something


def build(config: BuildConfig) -> list[Manifest]:
    """Build every shard set of `config.corpus` below `config.out`; returns their manifests, [] while other tasks write.

    What is already there and intact is kept. Raises DataError for settings, documents or fonts that cannot work, for a
    disk that is full or not to be written to, and when a folder holds shards of other settings without `overwrite`.
    """
    check(config)
    try:
        return _build(config)
    except OSError as error:
        where, why = error.filename or config.out, error.strerror or error
        raise DataError(
            f"{where}: {why}; finished shards are kept, the same command goes on from there"
        ) from None


def _build(config: BuildConfig) -> list[Manifest]:
    workshop = open_workshop(config.corpus)
    print(describe(workshop.engine), flush=True)
    makers = _makers(workshop, config.seed)
    jobs = {shard_set: _jobs(config, workshop, shard_set, maker) for shard_set, maker in makers.items()}
    for of_set in jobs.values():
        _claim(of_set[0].folder, of_set[0].build, config.overwrite)
    every = [job for of_set in jobs.values() for job in of_set]
    mine = every[config.task :: config.tasks]
    kept = {job.path: found for job in mine if (found := ShardDone.find(job))}
    started = time.monotonic()
    written = _write(config, mine, kept)
    seconds = time.monotonic() - started
    others = [job for job in every if job.path not in kept | written]
    if missing := sum(not job.note.is_file() for job in others):
        print(f"task {config.task} of {config.tasks} has written its {len(mine)} shards; of the others {missing} are missing yet")
        return []
    kept |= {job.path: _of_another(job) for job in others}
    done = {shard_set: [(kept | written)[job.path] for job in of_set] for shard_set, of_set in jobs.items()}
    for shard_set, shards in done.items():
        _check_complete(config.corpus, shard_set, makers[shard_set], shards)
    repeated = repetitions(done)
    manifests = []
    for shard_set, of_set in jobs.items():
        manifest = manifest_of(
            config, workshop, shard_set, makers[shard_set].provenance, done[shard_set], repeated[shard_set]
        )
        write_refused(of_set[0].folder, done[shard_set])
        manifest.save(of_set[0].folder)
        manifests.append(manifest)
    print_summary(
        config.out, manifests, len(kept), sum(one.entry.samples for one in written.values()), seconds
    )
    return manifests


def _makers(workshop: Workshop, seed: int) -> dict[ShardSet, Maker]:
    """The sets of a corpus with their makers; of a list as many samples as it has at most."""
    makers = {}
    for asked in shard_sets(workshop, seed):
        maker = SampleMaker(workshop, asked, seed).maker
        count = maker.count
        if count == 0:
            raise DataError(
                f"corpus.parts.{asked.name}: there is nothing for {asked.split}. Change the split with "
                f"corpus.held_out_fraction=, or build none with corpus.parts.{asked.name}."
                f"{'samples' if asked.split == 'train' else 'held_out'}=0"
            )
        pages = asked.pages if count is None else min(asked.pages, count)
        makers[replace(asked, pages=pages)] = maker
    return makers


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    from conf.command import run

    examples = [
        "corpus=smoke out=runs/pages",
        "corpus=udhr out=runs/udhr corpus.pages=4000",
        "corpus=mix_small out=runs/mix",
        "corpus=folder corpus.path=~/texts out=runs/mine",
    ]
    return run(
        _run,
        "build",
        BuildConfig,
        argv,
        description="Documents → typeset pages → verified webdataset shards.",
        examples=examples,
        check=check,
    )


def _run(config: BuildConfig) -> int:
    build(config)
    return 0


def _jobs(config: BuildConfig, workshop: Workshop, shard_set: ShardSet, maker: Maker) -> list[ShardJob]:
    folder, corpus = Path(config.out) / shard_set.folder, config.corpus
    identity = _identity(corpus, workshop, shard_set, maker, config.seed)
    return [
        ShardJob(folder, number, pages, corpus, shard_set, config.seed, identity)
        for number, pages in enumerate(shard_set.shards(corpus.shard_pages))
    ]


def _identity(corpus: CorpusConfig, workshop: Workshop, shard_set: ShardSet, maker: Maker, seed: int) -> str:
    """Digest of all that decides the bytes of a set, so that shards of other settings are never taken for its own."""
    content: dict[str, Any] = {
        "format": BUILD_FORMAT,
        "set": shard_set.as_dict(),
        "seed": seed,
        "prompt": corpus.prompt,
        "shard_pages": corpus.shard_pages,
        "held_out_fraction": corpus.held_out_fraction,
        "page": as_dict(corpus)["page"] | {"font_dirs": None},
        "fonts": workshop.fonts.sha256,
        "engine": [workshop.engine.name, workshop.engine.version],
        "contents": maker.digest,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _claim(folder: Path, identity: str, overwrite: bool) -> None:
    """Make sure that `folder` holds nothing, or shards of this very build."""
    found = {
        _build_of(path)
        for path in [folder / MANIFEST_NAME, *folder.glob("shard-*.done.json")]
        if path.is_file()
    }
    if found <= {identity}:
        return
    if not overwrite:
        raise DataError(
            f"{folder} holds shards made with other settings: give another out=, or replace them with overwrite=true"
        )
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


def _write(config: BuildConfig, every: list[ShardJob], kept: dict[Path, ShardDone]) -> dict[Path, ShardDone]:
    """Write the shards that are not kept, with a progress bar in samples; stops above the ceiling of refused pages."""
    jobs = [job for job in every if job.path not in kept]
    if not jobs:
        return {}
    from tqdm import tqdm

    refused: Counter[str] = Counter()
    for done in kept.values():
        refused.update(done.refused)
    total, finished = (
        sum(len(job.numbers) for job in every),
        sum(done.entry.samples for done in kept.values()),
    )
    with tqdm(total=total, initial=finished, unit=" samples", desc=config.corpus.name, smoothing=0.1) as bar:

        def progress(done: ShardDone) -> None:
            bar.update(done.entry.samples)
            refused.update(done.refused)
            _check_refused(config.corpus, refused, bar.n)

        return write_shards(jobs, config.workers or len(os.sched_getaffinity(0)), progress)


def _of_another(job: ShardJob) -> ShardDone:
    found = ShardDone.find(job)
    if found is None:
        raise DataError(f"{job.path}, which another task wrote, is damaged: build once more without task= and tasks=")
    return found


def _check_complete(
    corpus: CorpusConfig, shard_set: ShardSet, maker: Maker, shards: Sequence[ShardDone]
) -> None:
    """Of a list, what was refused is lost, and may be the share at most that is allowed, however short the list is."""
    lost = sum(sum(shard.refused.values()) for shard in shards)
    samples = sum(shard.entry.samples for shard in shards)
    if maker.count is None or (samples and lost <= corpus.max_refused * (samples + lost)):
        return
    named = [f"{item}: {reason}" if item else reason for shard in shards for item, reason in shard.named]
    raise DataError(
        f"{shard_set.folder}: {lost} of {samples + lost} items were refused, above corpus.max_refused={corpus.max_refused}: "
        f"{'; '.join(named[:5])}{'; ...' if len(named) > 5 else ''}. Mend them, or allow more with corpus.max_refused="
    )


def _check_refused(corpus: CorpusConfig, refused: Counter[str], made: int) -> None:
    lost = sum(refused.values())
    if made + lost >= _ENOUGH and lost > corpus.max_refused * (made + lost):
        reasons = "; ".join(f"{reason} ({count})" for reason, count in refused.most_common(5))
        raise DataError(
            f"{lost} of {made + lost} pages were refused, above corpus.max_refused={corpus.max_refused}: {reasons}. "
            "Use other fonts (corpus.page.font, corpus.page.font_dirs) or smaller letters (corpus.page.font_px), or allow more"
        )


if __name__ == "__main__":
    sys.exit(main())
