"""DeepEncoder at its published size, 398 million random parameters, in every mode, against transformers."""

import pytest
import torch

pytest.importorskip(
    "transformers.models.unlimited_ocr", reason="transformers is absent: install the extra `dev`"
)

from tests.train.model.peer_model import our_model, pixels, their_model, tolerance
from train.convert.architecture import published

pytestmark = [pytest.mark.usefixtures("one_process"), pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def models():
    """The published encoder before a decoder of one small layer, which is not looked at."""
    size = published()
    decoder = size.decoder
    decoder.layers, decoder.dense_layers, decoder.experts, decoder.vocab_size, decoder.ffn = 2, 1, 2, 272, 64
    decoder.experts_per_token, decoder.expert_ffn = 1, 16
    theirs = their_model(size, seed=1)
    return theirs, our_model(theirs)


@pytest.mark.parametrize("size", [512, 640, 1024, 1280])
def test_features_agree_at(size: int, models) -> None:
    """Of one view: all that Tiny, Small, Base and Large show, and the tiles of Gundam (640) and Gundam-M (1024)."""
    theirs, ours = models
    views = torch.randint(
        0, 256, (1, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(size)
    )
    with torch.no_grad():
        found = ours.encoder([pixels(views)]).tokens[0]
        expected = theirs.model.multi_modal_projector(
            theirs.model.vision_tower(pixels(views)).last_hidden_state
        )
    print(f"{size}: {float((found - expected).abs().max()):.2e} of {float(expected.abs().max()):.2f}")
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance(expected))
