"""Small real shard sets for tests: pages drawn by numpy, written by webdataset's own TarWriter."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import webdataset

from data_pipeline.batch import MicroBatch
from data_pipeline.manifest import Manifest, describe_shard
from data_pipeline.record import Box, Record, encode

SIDE = 32  # pixels a side of a page
CELL = 4


def a_record(number: int, source: str = "prose", pages: int = 1) -> Record:
    """A record whose content is a function of its number."""
    random = np.random.default_rng(number)
    images = tuple(random.integers(0, 256, (SIDE, SIDE), dtype=np.uint8) for _ in range(pages))
    glyphs = random.integers(0, 254, (SIDE // CELL, SIDE // CELL), dtype=np.uint8) if pages else None
    return Record(
        key=f"{source}-{number:05d}",
        kind="page" if pages else "text",
        prompt="\nFree OCR.",
        target=f"page {number} of {source}: été 漢",
        language="en",
        script="Latn",
        source=source,
        license="CC0-1.0",
        seed=number,
        boxes=(Box("word", "été", 1.5, 2.0, 8.0, 9.25),) if pages else (),
        pages=images,
        glyphs=glyphs,
        glyph_cell=CELL if pages else 0,
    )


def views_of(batch: MicroBatch, row: int) -> list[torch.Tensor]:
    """The views of a row's pages, uint8 [3, S, S] each."""
    stacks = {stack.shape[-1]: stack for stack in batch.views}
    places = [place for page in batch.shown if page.row == row for place in (page.overview, *page.tiles)]
    return [stacks[size][number] for size, number in places]


def write_shard(path: Path, records: Sequence[Record]) -> None:
    """One tar, with a fixed time stamp."""
    with open(path, "wb") as file, webdataset.TarWriter(file, mtime=0) as writer:
        for record in records:
            writer.write(encode(record))


def write_set(folder: Path, counts: Sequence[int], source: str = "prose", pages: int = 1) -> Manifest:
    """A shard set with `counts[i]` samples in shard i, indexed and with a manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    entries, first = [], 0
    for number, count in enumerate(counts):
        path = folder / f"shard-{number:05d}.tar"
        write_shard(path, [a_record(first + item, source, pages) for item in range(count)])
        entries.append(describe_shard(path))
        first += count
    manifest = Manifest(source, "train", entries)
    manifest.save(folder)
    return manifest


def flip(path: Path, offset: int) -> None:
    """Flip one bit of a file in place."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))
