"""Two tensor-parallel ranks against transformers' `unlimited_ocr`: logits and gradients, whole pages and tiles."""

from pathlib import Path

import pytest
import torch
from ranks import launch

pytest.importorskip(
    "transformers.models.unlimited_ocr", reason="transformers is absent: install the extra `dev`"
)

from tests.train.model.parity_ranks import play
from tests.train.model.peer_model import (
    differences,
    exact_gradients,
    import_run,
    page_batch,
    peer_size,
    their_logits,
    their_model,
    tolerance,
)

pytestmark = pytest.mark.usefixtures("one_process")

SHAPES = [(90, 200), (300, 100), (64, 64), (260, 180)]  # of pages, width and height


def test_two_ranks_agree_in_logits_and_every_gradient(tmp_path: Path) -> None:
    size = peer_size()
    theirs = their_model(size, seed=9)
    batches = [page_batch(size, modes, SHAPES, seed=6) for modes in (["128", "96+64"], ["64"])]
    ranks = launch(play, 2, str(import_run(theirs, tmp_path)), batches)

    for number, batch in enumerate(batches):
        expected = their_logits(theirs, batch)
        for logits, _ in ranks:
            torch.testing.assert_close(
                torch.from_numpy(logits[number]), expected.detach(), rtol=0, atol=tolerance(expected)
            )
    relative = differences(
        [piece for _, pieces in ranks for piece in pieces], exact_gradients(theirs, batches[0], size)
    )
    worst = max(relative, key=lambda key: relative[key])
    assert relative[worst] <= 1e-5, f"{worst}: {relative[worst]}"
