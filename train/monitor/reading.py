"""Reads a few held-out pages at each evaluation, the same ones every time, with the model as it is in training.

Really generated, greedily, at most LONGEST tokens a page; a longer text is compared as far as that goes. Each data rank reads
its share. It changes nothing that training sees: weights that are used through a chain of transforms are put in the place of
the stored ones while it reads, as `fold` does for good when a model is loaded.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from data_pipeline.batch import BatchSpec
from data_pipeline.errors import UserError
from data_pipeline.reader import records
from data_pipeline.record import Record
from data_pipeline.remote import DEFAULTS, Place, Remote
from data_pipeline.resolution import grid_of, positions
from data_pipeline.tokenizer import Tokenizer
from parallel.layers.transform import TRANSFORMS, Transformable
from train.generate.decoder import require_whole_layers
from train.generate.decoding import read
from train.generate.options import Decoding
from train.model.optical import OpticalModel
from train.monitor.samples import Page, folder_of
from train.monitor.samples_page import write_pages

LONGEST = 256  # tokens read from one page, and no more than twice what the longest of them says
LOOKED_AT = 8  # samples that are looked at for each that is taken


@dataclass(frozen=True)
class Sample:
    """A held-out page that is read again and again. reference: as far as it is read."""

    source: str
    record: Record
    reference: str


class SampleReader:
    """Called at an evaluation, by all ranks together; with no samples it does nothing.

    `step` → precision/SOURCE and edit_distance/SOURCE, means over the pages of each source.
    """

    def __init__(
        self, model: torch.nn.Module, tokenizer: Tokenizer, spec: BatchSpec, samples: list[Sample], folder: Path
    ) -> None:
        self.model, self.tokenizer, self.samples, self.folder = model, tokenizer, samples, folder
        self.spec = replace(spec, modes=spec.modes[:1])
        longest = max((len(tokenizer.encode(sample.reference)) for sample in samples), default=0)
        self.decoding = Decoding(min(LONGEST, 2 * longest + 8))

    def __call__(self, step: int) -> dict[str, float]:
        """Reads, writes samples/step-XXXXXXXX, and returns the means, the same on every rank."""
        if not self.samples:
            return {}
        group = parallel_state.get_data_parallel_group()
        mine = self._texts(range(group.rank(), len(self.samples), group.size()))
        parts: list[dict[int, str]] = [{} for _ in range(group.size())]
        dist.all_gather_object(parts, mine, group=group)
        texts = {index: text for part in parts for index, text in part.items()}
        target = folder_of(self.folder, step)
        pages = [
            Page(sample.source, sample.record.key, target / f"{index}.png", sample.reference, texts[index])
            for index, sample in enumerate(self.samples)
        ]
        if dist.get_rank() == 0:
            write_pages(self.folder, step, [(page, sample.record.pages[0]) for page, sample in zip(pages, self.samples)])
        return _means(pages)

    def _texts(self, own: range) -> dict[int, str]:
        """Index → what was read, of this data rank's pages."""
        assert isinstance(self.model, OpticalModel)
        found: dict[int, str] = {}
        with used_weights(self.model):
            for prompt in dict.fromkeys(self.samples[index].record.prompt for index in own):
                alike = [index for index in own if self.samples[index].record.prompt == prompt]
                pages = [self.samples[index].record.pages[0] for index in alike]
                readings = read(self.model, self.tokenizer, pages, prompt, self.spec, self.decoding, len(pages))
                found |= {index: reading.text for index, reading in zip(alike, readings, strict=True)}
        return found


def reader_of(
    model: torch.nn.Module,
    tokenizer: Tokenizer,
    spec: BatchSpec,
    held_out: Mapping[str, Place],
    count: int,
    folder: Path,
    say: Callable[[str], object],
    stage: int,
    remote: Remote = DEFAULTS,
) -> SampleReader:
    """The reader of `count` held-out pages, dealt out over the sources in turn. stage: of ZeRO. Where pages cannot be read in
    training, `say` tells why, once, and the reader does nothing.
    """
    if count:
        try:
            _check(spec, stage)
        except UserError as error:
            say(f"no pages are read while training (logger.samples={count}): {error}")
            count = 0
    return SampleReader(model, tokenizer, spec, chosen(tokenizer, spec, held_out, count, remote) if count else [], folder)


def chosen(
    tokenizer: Tokenizer, spec: BatchSpec, held_out: Mapping[str, Place], count: int, remote: Remote
) -> list[Sample]:
    """The first samples of each source that show one page which leaves room for a text."""
    each = -(-count // max(len(held_out), 1))
    found = {}
    for source, place in held_out.items():
        fitting = (record for record in records(place, LOOKED_AT * each, remote) if _fits(record, tokenizer, spec))
        found[source] = [Sample(source, record, _as_far(record.target, tokenizer)) for _, record in zip(range(each), fitting)]
    dealt = [own[turn] for turn in range(each) for own in found.values() if turn < len(own)]
    return sorted(dealt[:count], key=lambda sample: list(held_out).index(sample.source))


def _check(spec: BatchSpec, stage: int) -> None:
    """Raises UserError where no rank has what it takes to read a page."""
    require_whole_layers()
    if spec.texts:
        raise UserError("this model compresses texts, not pages of them")
    if stage == 3:
        raise UserError("engine.zero=3 splits each weight over the data ranks; engine.zero=2 keeps them whole")


def _fits(record: Record, tokenizer: Tokenizer, spec: BatchSpec) -> bool:
    if len(record.pages) != 1:
        return False
    mode, (height, width) = spec.parsed[0], record.pages[0].shape[:2]
    shown = positions(mode, spec.patch, grid_of(width, height, mode))
    return spec.reserved + 1 + shown + len(tokenizer.encode(record.prompt)) < spec.max_length


def _as_far(text: str, tokenizer: Tokenizer) -> str:
    ids = tokenizer.encode(text)
    return text if len(ids) <= LONGEST else tokenizer.decode(ids[:LONGEST])


@contextmanager
def used_weights(model: torch.nn.Module) -> Iterator[None]:
    """Inside, layers hold the weights that their chains make of the stored ones, and no chain; afterwards all is as it was."""
    taken = []
    with torch.no_grad():
        for owner in model.modules():
            if isinstance(owner, Transformable) and TRANSFORMS in owner._modules:
                names = [site.parameter for site in owner.sites() if owner.chain(site.parameter) is not None]
                taken.append((owner, owner._modules[TRANSFORMS], {name: owner.used(name).detach() for name in names}))
    stored: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for owner, _, used in taken:
            del owner._modules[TRANSFORMS]
            for name, weight in used.items():  # a packed weight is no parameter
                place: dict[str, Any] = owner._parameters if name in owner._parameters else owner.__dict__
                stored.append((place, name, place[name]))
                place[name] = torch.nn.Parameter(weight, requires_grad=False)
        yield
    finally:
        for place, name, weight in stored:
            place[name] = weight
        for owner, chains, _ in taken:
            owner._modules[TRANSFORMS] = chains


def _means(pages: list[Page]) -> dict[str, float]:
    values: dict[str, float] = {}
    for source in dict.fromkeys(page.source for page in pages):
        own = [page for page in pages if page.source == source]
        values[f"precision/{source}"] = sum(page.precision for page in own) / len(own)
        values[f"edit_distance/{source}"] = sum(page.edit_distance for page in own) / len(own)
    return values
