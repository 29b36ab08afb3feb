"""A small shard set with pages that differ, for tests that read held-out data."""

from pathlib import Path

import numpy as np
from webdataset import TarWriter

from data_pipeline.manifest import Manifest, describe_shard
from data_pipeline.record import Record, encode


def make_records(count: int, seed: int = 0, prompt: str = "") -> list[Record]:
    """Records of 64-pixel noise pages with texts of different lengths."""
    generator = np.random.default_rng(seed)
    found = []
    for index in range(count):
        page = generator.integers(0, 256, size=(64, 64), dtype=np.uint8)
        page[:, :40] = 255  # most of a page is paper
        text = "".join(chr(value) for value in generator.integers(97, 123, size=5 + index % 4))
        found.append(
            Record(
                f"page-{seed}-{index:03d}",
                "text",
                prompt,
                text,
                "en",
                "Latn",
                "test",
                "CC0",
                index,
                pages=(page,),
            )
        )
    return found


def write_shard_set(folder: Path, records: list[Record]) -> Path:
    """The records as one shard with its index and manifest."""
    folder.mkdir(parents=True)
    tar = folder / "shard-00000.tar"
    with TarWriter(str(tar), encoder=False) as writer:
        for record in records:
            writer.write(encode(record))
    Manifest(folder.name, "held_out", [describe_shard(tar)]).save(folder)
    return folder
