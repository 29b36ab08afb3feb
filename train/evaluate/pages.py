"""What is read in an evaluation: pages with what they say, from shard sets or from other folders' formats.

Pictures stay where they are until a batch needs them: a benchmark of large scans does not fit into memory.
"""

import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from data_pipeline.errors import DataError, SampleError
from data_pipeline.page_file import FORMATS, decode_page
from data_pipeline.reader import ShardReader
from data_pipeline.record import Record, decode
from train.evaluate.formats.page import Page, PageFolder


@dataclass(frozen=True)
class PageToRead:
    """One page: what it is, what it says (`reference`), and how to get its picture.

    width, height: pixels of the picture. identity: changes when picture, prompt or text do. page: as its format
    tells it, with its blocks; None for pages of shard sets.
    """

    source: str
    key: str
    prompt: str
    reference: str
    language: str
    script: str
    kind: str
    width: int
    height: int
    identity: str
    picture: Callable[[], np.ndarray]
    page: Page | None = None

    def record(self, number: int) -> Record:
        """The page as a sample for training batches; it is called by its `number`, as keys of other formats may hold
        any character.
        """
        return Record(
            f"page-{number:08d}", self.kind or "text", self.prompt, self.reference, self.language, self.script,
            self.source, "unknown", 0, pages=(self.picture(),),
        )  # fmt: skip


@dataclass
class Source:
    """Pages that are measured together, and pages of random text of the same kind (none: no such floor).

    texts: samples without a page, of which only the loss can be measured. left_out: page → why it is not read.
    """

    name: str
    pages: list[PageToRead]
    lots: list[PageToRead] = field(default_factory=list)
    texts: list[Record] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def shard_source(
    name: str, folder: Path, floor: Path | None, limit: int, prompt: str | None, languages: Sequence[str] = ()
) -> Source:
    """The first `limit` samples (in these languages) of a shard set and of its floor's; those with several pages are left
    out. DataError for a set without any such sample, or a damaged one.
    """
    source = _shard_samples(Source(name, []), folder, limit, prompt, languages)
    if not source.pages and not source.texts:
        which = f" in languages={list(languages)}" if languages else ""
        raise DataError(
            f"{folder} (source {name}) holds no sample with one page or none{which}: nothing to read"
        )
    if floor:  # random text has no language of its own
        source.lots = _shard_samples(Source(floor.name, []), floor, limit, prompt, ()).pages
    return source


def folder_source(
    name: str,
    folder: PageFolder,
    limit: int | None,
    prompt: Callable[[Page], str],
    languages: Sequence[str] = (),
) -> Source:
    """Pages of another format. A picture that cannot be opened is left out, by name."""
    source = Source(name, [], left_out=dict(folder.left_out))
    chosen = [page for page in folder.pages if not languages or page.language in languages]
    if not chosen:
        known = sorted({page.language or "not told" for page in folder.pages})
        raise DataError(f"languages={list(languages)}: the pages of {name} are in: {', '.join(known)}")
    for page in chosen[:limit]:
        try:
            source.pages.append(_file_page(name, page, prompt(page)))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            source.left_out[page.key] = f"{page.picture.name}: {_reason(error)}"
    return source


def _shard_samples(
    source: Source, folder: Path, limit: int, prompt: str | None, languages: Sequence[str]
) -> Source:
    """The source with the first samples of a shard set put in."""
    reader = ShardReader(folder.name, folder)
    for number, shard in enumerate(reader.manifest.shards):
        for sample in range(shard.samples):
            record = decode(reader.read(number, sample))
            if languages and record.language not in languages:
                continue
            if len(record.pages) > 1:
                source.left_out[record.key] = f"has {len(record.pages)} pages, and one is read at a time"
            elif record.pages:
                source.pages.append(_shard_page(source.name, record, reader, (number, sample), prompt))
            else:
                source.texts.append(record)
            if len(source.pages) + len(source.texts) == limit:
                return source
    return source


def _shard_page(
    source: str, record: Record, reader: ShardReader, place: tuple[int, int], prompt: str | None
) -> PageToRead:
    height, width = record.pages[0].shape[:2]
    asked = record.prompt if prompt is None else prompt
    return PageToRead(
        source, record.key, asked, record.target, record.language, record.script, record.kind, width, height,
        f"{zlib.crc32(record.pages[0].tobytes()):08x}-{asked}", lambda: decode(reader.read(*place)).pages[0],
    )  # fmt: skip


def _file_page(source: str, page: Page, prompt: str) -> PageToRead:
    extension = page.picture.suffix.lower().removeprefix(".")
    formats = [FORMATS[extension]] if extension in FORMATS else []
    with Image.open(page.picture, formats=formats) as image:
        width, height = image.size
        turned = image.getexif().get(0x0112, 1) >= 5  # EXIF orientations by a quarter
    state = page.picture.stat()
    width, height = (height, width) if turned else (width, height)
    return PageToRead(
        source, page.key, prompt, page.reference, page.language, "", page.kind, width, height,
        f"{page.picture.name}-{state.st_size}-{state.st_mtime_ns}-{prompt}", _Picture(page.picture), page,
    )  # fmt: skip


@dataclass(frozen=True)
class _Picture:
    path: Path

    def __call__(self) -> np.ndarray:
        extension = self.path.suffix.lower().removeprefix(".")
        if extension not in FORMATS:
            raise SampleError("bad image", f"{self.path.name}: not one of {', '.join(sorted(FORMATS))}")
        return decode_page(extension, self.path.read_bytes())


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0]


def digest_of(pages: Sequence[PageToRead]) -> str:
    """Equal for evaluations of the same pages, whichever model read them."""
    told = hashlib.sha256()
    for page in pages:
        told.update(f"{page.source}\0{page.key}\0{page.reference}\0".encode())
    return told.hexdigest()[:16]
