"""What the documentation takes for granted: a picture, a book, scans, benchmarks, released weights. Small ones, made here."""

import json
from pathlib import Path

from tests.docs.commands import ROOT

FROM_THE_REPOSITORY = ("tests/data", "slurm")
MADE = ("page.png", "book.pdf", "scans", "FOX", "OMNIDOCBENCH", "DEEPSEEK_OCR")


def make(folder: Path) -> None:
    """Fills `folder`, in which commands are typed. Imports torch."""
    from tests.train.evaluate.omnidocbench_pages import benchmark as omnidocbench
    from tests.train.generate.paper import pdf, picture

    for name in FROM_THE_REPOSITORY:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(ROOT / name)
    picture(folder / "page.png")
    pdf(folder / "book.pdf", pages=7)
    for number in range(3):
        picture(folder / "scans" / f"{number}.png", seed=number)
    _fox(folder / "FOX")
    omnidocbench(folder / "OMNIDOCBENCH")
    _released(folder / "DEEPSEEK_OCR")


def _fox(folder: Path) -> None:
    """The Fox benchmark with two English pages as long as those that the paper's table is of."""
    from tests.train.evaluate.formats.test_fox_format import benchmark, entry

    benchmark(folder)
    pages = [entry(f"en_{number}.png", "a " * (600 + 10 * number)) for number in (1, 2)]
    (folder / "en_page_ocr.json").write_text(json.dumps(pages))


def _released(folder: Path) -> None:
    """Released weights of a model with the paper's patches and resolution, and toy widths."""
    import torch

    from tests.train.convert.folders import released_folder, size, tensors

    model = size()
    model.encoder.patch, model.encoder.image_size, model.decoder.max_length = 16, 1024, 4096
    model.encoder.window_depth, model.encoder.global_layers, model.decoder.layers = 1, [], 2
    finite = {name: torch.nan_to_num(value, posinf=0.0, neginf=0.0) for name, value in tensors(model).items()}
    released_folder(folder, model, finite)
