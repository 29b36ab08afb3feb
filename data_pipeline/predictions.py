"""A teacher's predictions on disk: for each sample of a shard set the likeliest tokens at its labelled positions.

A set of predictions is a shard set of its own (`python -m train.cache_teacher` writes it): shards with the same samples as
those of the data, in the same order, so that any teacher, of any layout and resolution, is read as fast as pages are. Of a
sample, whose N labelled positions predict its target and its end:

    KEY.labels.npy   int32 [N]: the tokens of the text, to tell that it is the same
    KEY.ids.npy      int32 [N, K]: the teacher's likeliest tokens, likeliest first
    KEY.logs.npy     float16 [N, K + 1]: their log-probabilities, and that of all other tokens together

`manifest.json` says in `config` which teacher this was, at which temperature, and of which data (`prediction_sets.Facts`).
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from data_pipeline.errors import SampleError
from data_pipeline.manifest import ShardIndex
from data_pipeline.prediction_sets import sets_in
from data_pipeline.reader import ShardReader

PARTS = {"labels": np.int32, "ids": np.int32, "logs": np.float16}


class Told(NamedTuple):
    """What a teacher told of some positions: ids int32 [N, K], log-probabilities float16 [N, K + 1], the last of the rest."""

    ids: torch.Tensor
    logs: torch.Tensor

    def to(self, device: torch.device | str) -> "Told":
        """The same on a device."""
        return Told(self.ids.to(device), self.logs.to(device))


def encode(key: str, labels: np.ndarray, ids: np.ndarray, logs: np.ndarray) -> dict[str, Any]:
    """A sample for webdataset's writer."""
    sample: dict[str, Any] = {"__key__": key}
    for (name, kind), array in zip(PARTS.items(), (labels, ids, logs), strict=True):
        buffer = io.BytesIO()
        np.save(buffer, array.astype(kind), allow_pickle=False)
        sample[f"{name}.npy"] = buffer.getvalue()
    return sample


def decode(sample: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(labels, ids, logs). SampleError for what is not as `encode` made it."""
    try:
        labels, ids, logs = (np.load(io.BytesIO(sample[f"{name}.npy"]), allow_pickle=False) for name in PARTS)
    except Exception as error:  # a damaged header makes NumPy raise nearly anything
        raise SampleError(
            "bad predictions", f"{sample.get('__key__')!r}: bad predictions ({error})"
        ) from None
    kinds = all(array.dtype == kind for array, kind in zip((labels, ids, logs), PARTS.values()))
    if not kinds or len(labels) != len(ids) or logs.shape != (len(ids), ids.shape[-1] + 1):
        raise SampleError(
            "bad predictions", f"{sample.get('__key__')!r}: predictions of other shapes or types"
        )
    return labels, ids, logs


class PredictionReader:
    """Predictions by the key of a sample, from all sets of a folder. Not for use by two threads."""

    def __init__(self, folder: Path) -> None:
        self.folder, facts = folder, sets_in(folder)
        self.facts = next(iter(facts.values()))
        self._readers = [ShardReader(path.name, path) for path in facts]
        # of every sample a hash of its key, ascending, and where it is: 20 bytes a sample, however long the keys
        hashes, places = [], []
        for number, reader in enumerate(self._readers):
            for shard, entry in enumerate(reader.manifest.shards):
                keys = [
                    sample.key for sample in ShardIndex.load(Path(str(reader.folder)) / entry.name).samples
                ]
                hashes += [hash_of(key) for key in keys]
                places += [(number, shard, sample) for sample in range(len(keys))]
        order = np.argsort(np.array(hashes, dtype=np.uint64), kind="stable")
        self._hashes = np.array(hashes, dtype=np.uint64)[order]
        self._places = np.array(places, dtype=np.int32).reshape(-1, 3)[order]

    def find(self, key: str, labels: Sequence[int]) -> Told:
        """Of the sample `key`, whose text has these tokens; those of a text that was cut here are cut as well. SampleError where
        there is none of this sample, or it had another text.
        """
        if not labels:  # a hole, or a text that was cut before it began
            return Told(
                torch.zeros(0, self.facts.top_k, dtype=torch.int32),
                torch.zeros(0, self.facts.top_k + 1, dtype=torch.float16),
            )
        wanted, known = hash_of(key), False
        first, last = (
            np.searchsorted(self._hashes, wanted, "left"),
            np.searchsorted(self._hashes, wanted, "right"),
        )
        for number, shard, sample in self._places[first:last].tolist():
            reader = self._readers[number]
            if reader.key(shard, sample) != key:
                continue
            known = True
            text, ids, logs = decode(reader.read(shard, sample))
            if len(text) >= len(labels) and (text[: len(labels)] == np.asarray(labels, dtype=np.int32)).all():
                return Told(torch.from_numpy(ids[: len(labels)]), torch.from_numpy(logs[: len(labels)]))
        reason = "was of another text" if known else "is not there"
        raise SampleError(
            "no predictions",
            f"{self.folder}: what the teacher told of {key!r} {reason}; write the predictions again",
        )

    def close(self) -> None:
        """Closes the shards."""
        for reader in self._readers:
            reader.close()


def hash_of(key: str) -> int:
    """8 bytes that tell keys apart, nearly always; `find` looks at the key itself as well."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")
