"""Which samples fit a model, page, question and answer together, and what the others take."""

from collections.abc import Sequence
from dataclasses import replace

from data_pipeline.batch import BatchSpec
from data_pipeline.resolution import grid_of, mode_of, positions
from data_pipeline.tokenizer import Tokenizer
from train.evaluate.pages import PageToRead, Source


def fitting(source: Source, modes: Sequence[str], tokenizer: Tokenizer, spec: BatchSpec) -> Source:
    """The source without the pages that take more positions than the model has, in any of the modes: the same pages are
    read in all of them. Those go to `left_out`.

    A sample of ours is left out where its text does not fit either, as training leaves it out; a benchmark's page is
    read as far as the model goes.
    """
    good, left_out = [], dict(source.left_out)
    for page in source.pages:
        seen = max(positions_of(page, mode, spec.patch) for mode in modes)
        asked = spec.reserved + seen + len(tokenizer.encode(page.prompt)) + 1
        whole = asked + len(tokenizer.encode(page.reference)) + 1
        if asked >= spec.max_length:
            left_out[page.key] = f"page and prompt take {asked} of the model's {spec.max_length} positions"
        elif page.page is None and whole > spec.max_length:
            left_out[page.key] = f"with its text it takes {whole} of the model's {spec.max_length} positions"
        else:
            good.append(page)
    return replace(source, pages=good, left_out=left_out)


def positions_of(page: PageToRead, mode: str, patch: int) -> int:
    """Positions that a page takes in a mode, without its text."""
    parsed = mode_of(mode)
    return positions(parsed, patch, grid_of(page.width, page.height, parsed))
