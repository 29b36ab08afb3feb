"""The settings of a build: which text, on what kind of page, into how many shards. Plain dataclasses, nothing heavy.

`conf/build.yaml` and `conf/corpus/*.yaml` fill them; `check` turns every impossible value into a DataError that
names the override to use, before anything is rendered or written.
"""

import re
from dataclasses import asdict, dataclass, field
from typing import Any

from data_pipeline.errors import DataError
from data_pipeline.resolution import mode_of, vision_tokens

SOURCES = ("austen", "udhr", "folder", "debian")
ENGINES = ("auto", "pango", "pillow")
ALIGNMENTS = ("left", "center", "right", "justify")


@dataclass
class PageConfig:
    """A square page and how text is set on it; lengths are pixels."""

    size: int = 128
    patch: int = 8  # the encoder's patch: with `size` it says how many vision tokens a page becomes
    margin: int = 4
    font: list[str] = field(
        default_factory=lambda: ["DejaVu Sans Mono"]
    )  # drawn by seed; [] = any that covers the text
    font_dirs: list[str] = field(
        default_factory=list
    )  # folders with .ttf/.otf/.ttc files, besides matplotlib's DejaVu
    font_px: float = 0.0  # 0 = the largest at which the text budget fits the page
    line_spacing: float = 1.0
    align: str = "left"
    jitter: int = 2  # the text block moves by 0..jitter pixels, drawn by seed, each way
    glyph_cell: int = 0  # pixels a side of a glyph map cell; 0 = half a patch

    @property
    def cell(self) -> int:
        """Pixels a side of one glyph map cell."""
        return self.glyph_cell or max(1, self.patch // 2)


@dataclass
class PartConfig:
    """Samples of one kind: one shard set for training, one held out."""

    kind: str = "???"  # see data_pipeline/kinds
    samples: int = 1000  # for training; at most as many as there are, where the kind goes through a list
    held_out: int = 100
    options: dict[str, Any] = field(default_factory=dict)  # of the kind: `Options` in its file


@dataclass
class CorpusConfig:
    """Documents, how they are split, and the pages made of them."""

    name: str = "smoke"
    source: str = "austen"
    path: str = ""  # source=folder: your texts, PDFs, pictures with texts, conversations; source=debian: what data_pipeline.fetch wrote
    language: str = "und"  # source=folder: BCP 47 tag of the texts
    license: str = "unknown"  # source=folder: licence recorded with each page
    held_out: list[str] = field(default_factory=list)  # document families kept from training, by name
    held_out_fraction: float = 0.0  # or this share of the families, drawn by their hash
    ratios: list[int] = field(
        default_factory=lambda: [4, 8]
    )  # bytes of text per vision token; [] = fill the page
    pages: int = 16000  # training pages of each ratio
    held_out_pages: int = 512  # of each ratio
    held_out_random_pages: int = (
        256  # of random words, of each ratio: a floor without any language to guess from
    )
    random_text: float = 0.1  # share of training pages that show random words instead of prose
    shard_pages: int = 1000
    max_refused: float = 0.01  # share of documents, and of pages, that may be refused before the build stops
    prompt: str = "\nFree OCR."
    engine: str = "auto"
    parts: dict[str, PartConfig] = field(default_factory=dict)  # samples of other kinds, by name
    page: PageConfig = field(default_factory=PageConfig)

    @property
    def vision_tokens(self) -> int:
        """Vision tokens that one page becomes."""
        return vision_tokens(mode_of(str(self.page.size)), self.page.patch)


@dataclass
class BuildConfig:
    """`python -m data_pipeline.build`: a corpus, and where its shards go."""

    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    out: str = "runs/pages"
    workers: int = 0  # processes; 0 = one for each core
    seed: int = 0
    overwrite: bool = False
    task: int = 0  # of `tasks`, which build one corpus together, on several machines
    tasks: int = 1


def as_dict(config: CorpusConfig) -> dict[str, Any]:
    """The corpus settings as plain values, for a manifest."""
    return asdict(config)


def check(config: BuildConfig) -> None:
    """Raise DataError for a value that cannot work, naming the override that would."""
    corpus, page = config.corpus, config.corpus.page
    _need(bool(config.out), "out=", "names no folder; give one, such as out=runs/pages")
    _need(config.workers >= 0, "workers=", f"is {config.workers}; give 0 (one for each core) or more")
    _need(config.tasks >= 1, "tasks=", f"is {config.tasks}; give 1 (this command builds all) or more")
    _need(0 <= config.task < config.tasks, "task=", f"is {config.task}; give 0 to {config.tasks - 1}, as tasks={config.tasks}")
    _need(
        config.tasks == 1 or not config.overwrite,
        "overwrite=true",
        f"would let {config.tasks} tasks remove each other's shards; remove {config.out} first, or choose another out=",
    )
    _need(0 <= config.seed < 2**63, "seed=", f"is {config.seed}; give 0 or a larger whole number")
    _need(
        corpus.source in SOURCES,
        "corpus.source=",
        f"is {corpus.source!r}; choose one of {', '.join(SOURCES)}",
    )
    _need(
        corpus.source not in ("folder", "debian") or bool(corpus.path),
        "corpus.path=",
        "is empty; name the folder with your data",
    )
    _need(
        corpus.engine in ENGINES,
        "corpus.engine=",
        f"is {corpus.engine!r}; choose one of {', '.join(ENGINES)}",
    )
    _need(corpus.pages >= 0, "corpus.pages=", f"is {corpus.pages}; give 0 or more")
    _need(corpus.held_out_pages >= 0, "corpus.held_out_pages=", "is negative; give 0 or more")
    _need(corpus.held_out_random_pages >= 0, "corpus.held_out_random_pages=", "is negative; give 0 or more")
    texts = corpus.pages + corpus.held_out_pages + corpus.held_out_random_pages
    total = texts + sum(part.samples + part.held_out for part in corpus.parts.values())
    _need(
        total > 0,
        "corpus.pages=",
        "and corpus.held_out_pages= are both 0, and there are no corpus.parts: nothing to build",
    )
    _need(corpus.shard_pages > 0, "corpus.shard_pages=", f"is {corpus.shard_pages}; give 1 or more")
    for name in ("random_text", "max_refused", "held_out_fraction"):
        value = getattr(corpus, name)
        _need(0 <= value <= 1, f"corpus.{name}=", f"is {value}; give a share between 0 and 1")
    _need(
        all(ratio > 0 for ratio in corpus.ratios),
        "corpus.ratios=",
        f"is {corpus.ratios}; give numbers above 0",
    )
    _need(
        len(set(corpus.ratios)) == len(corpus.ratios), "corpus.ratios=", f"names one twice: {corpus.ratios}"
    )
    for name, part in corpus.parts.items():
        _check_part(name, part, corpus)
    _check_page(page, corpus, texts > 0)


def _check_part(name: str, part: PartConfig, corpus: CorpusConfig) -> None:
    from data_pipeline.kinds import kind_named
    from data_pipeline.kinds.options import parse

    where = f"corpus.parts.{name}"
    plain = bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}", name))
    _need(plain, f"{where}:", "a part is named by up to 60 letters, digits, '_' or '-': it becomes a folder")
    _need(part.samples >= 0, f"{where}.samples=", f"is {part.samples}; give 0 or more")
    _need(part.held_out >= 0, f"{where}.held_out=", f"is {part.held_out}; give 0 or more")
    try:
        kind = kind_named(part.kind)
    except DataError as error:
        raise DataError(f"{where}.kind={part.kind}: {error}") from None
    parse(kind, part.options, f"{where}.options")
    split = corpus.held_out_fraction > 0 or "held_out" in kind.Options.__dataclass_fields__
    _need(
        part.held_out == 0 or split,
        f"{where}.held_out=",
        f"is {part.held_out}, but nothing is kept from training: set corpus.held_out_fraction=0.1",
    )


def _check_page(page: PageConfig, corpus: CorpusConfig, texts: bool) -> None:
    unit = 4 * page.patch
    _need(page.patch > 0, "corpus.page.patch=", f"is {page.patch}; give 1 or more")
    nearest = max(unit, round(page.size / unit) * unit)
    _need(
        page.size > 0 and page.size % unit == 0,
        "corpus.page.size=",
        f"is {page.size}, not a multiple of 4 x patch = {unit}; the nearest is {nearest}",
    )
    _need(
        page.margin >= 0 and page.jitter >= 0,
        "corpus.page.margin=",
        "and corpus.page.jitter= must be 0 or more",
    )
    inside = page.size - 2 * page.margin - page.jitter
    _need(
        inside >= 8,
        "corpus.page.margin=",
        f"is {page.margin}: on a page of {page.size} px it leaves {inside} px for text",
    )
    _need(
        page.align in ALIGNMENTS,
        "corpus.page.align=",
        f"is {page.align!r}; choose one of {', '.join(ALIGNMENTS)}",
    )
    _need(
        0.5 <= page.line_spacing <= 4, "corpus.page.line_spacing=", f"is {page.line_spacing}; give 0.5 to 4"
    )
    _need(
        page.font_px == 0 or page.font_px >= 4,
        "corpus.page.font_px=",
        f"is {page.font_px}; give 4 or more, or 0 = computed",
    )
    _need(
        0 <= page.glyph_cell <= page.size,
        "corpus.page.glyph_cell=",
        f"is {page.glyph_cell}; give 1 to {page.size}, or 0",
    )
    fixed = page.font_px > 0 or not texts
    _need(
        fixed or bool(corpus.ratios),
        "corpus.page.font_px=",
        "must be given when corpus.ratios is empty (pages are filled)",
    )
    _need(
        fixed or bool(page.font),
        "corpus.page.font_px=",
        "must be given when corpus.page.font is empty (fonts by coverage)",
    )


def _need(condition: bool, override: str, message: str) -> None:
    if not condition:
        raise DataError(f"{override} {message}")
