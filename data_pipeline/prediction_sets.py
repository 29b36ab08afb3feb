"""Which teacher's predictions a folder holds, of which data: what their manifests say. Loads no torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError
from data_pipeline.manifest import MANIFEST_NAME, Manifest
from data_pipeline.remote import Place

KIND = "predictions"


@dataclass(frozen=True)
class Facts:
    """data, tokenizer: digests. vocabulary: of the model's output. teacher: the run as it was named, and `model`, a digest of its
    checkpoint. modes: in which it saw pages.
    """

    data: str
    tokenizer: str
    vocabulary: int
    top_k: int
    temperature: float
    teacher: str
    model: str
    modes: list[str]

    def to_config(self) -> dict[str, Any]:
        """For the manifest."""
        return {"kind": KIND, **asdict(self)}

    @classmethod
    def of(cls, manifest: Manifest, folder: Path) -> "Facts":
        """What a manifest says. DataError where it is of something else."""
        config = manifest.config
        if config.get("kind") != KIND or not {one.name for one in fields(cls)} <= config.keys():
            raise DataError(
                f"{folder} is a shard set, but not of a teacher's predictions (python -m train.cache_teacher)"
            )
        return cls(**{one.name: config[one.name] for one in fields(cls)})


def sets_in(folder: Path) -> dict[Path, Facts]:
    """The sets of predictions in a folder, or the folder itself. DataError where there is none, or they are not alike."""
    found = (
        [folder]
        if (folder / MANIFEST_NAME).is_file()
        else [path.parent for path in sorted(folder.glob(f"*/{MANIFEST_NAME}"))]
    )
    if not found:
        raise DataError(
            f"{folder}: no finished predictions there (no {MANIFEST_NAME}); python -m train.cache_teacher writes them"
        )
    facts = {path: Facts.of(Manifest.load(path), path) for path in found}
    first, *others = facts.items()
    for path, other in others:
        for name in ("tokenizer", "vocabulary", "top_k", "temperature", "model"):
            if getattr(other, name) != getattr(first[1], name):
                raise DataError(
                    f"{first[0]} and {path} are of different teachers or settings ({name} {getattr(first[1], name)} and "
                    f"{getattr(other, name)}); keep them in folders of their own"
                )
    return facts


def require(folder: Path, sources: Mapping[str, Place]) -> None:
    """Raises DataError for a shard set (of a source, by name) whose predictions the folder does not hold, or only of what it was
    before it was built again.
    """
    held = {facts.data: path for path, facts in sets_in(folder).items()}
    for name, place in sources.items():
        if Manifest.load(place).digest() not in held:
            raise DataError(
                f"distill.cache={folder}: it holds no predictions of data.train.{name} ({place}) as it is now, but those of "
                f"{', '.join(path.name for path in held.values())}. Write them: python -m train.cache_teacher teacher=RUN "
                f"data=[{place}] out={folder}"
            )
