"""The peer of the benchmarks is the same model with the same weights."""

from collections.abc import Iterator

import pytest
import torch

from tests.train.model.small_model import IMAGE_TOKEN, noise_pages, small_model, without_zeros

pytest.importorskip("transformers.models.unlimited_ocr", reason="transformers is absent: install the extra `dev`")


@pytest.fixture(scope="module")
def one_process() -> Iterator[None]:
    from parallel import topology

    topology.start(topology.Topology(), seed=0)
    yield
    topology.stop()


@pytest.mark.parametrize("tied", [False, True])
def test_the_peer_gives_the_logits_of_the_model_it_was_made_from(one_process, tied: bool) -> None:
    from benchmarks.peer import peer
    from train.model.optical import build

    model, pages = small_model(), noise_pages()
    model.decoder.tied_embeddings = tied
    ours = without_zeros(build(model, IMAGE_TOKEN))
    theirs = peer(model, IMAGE_TOKEN, ours.state_dict())
    pages.padding[:] = False
    with torch.no_grad():
        expected = ours(pages).logits
        pixels = (pages.views[0].float() / 255 - 0.5) / 0.5
        found = theirs(input_ids=pages.tokens, pixel_values=pixels).logits
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_the_peer_keeps_the_format_of_the_weights_but_for_rotation(one_process) -> None:
    from benchmarks.peer import peer
    from train.model.optical import build

    model = small_model()
    theirs = peer(model, IMAGE_TOKEN, build(model, IMAGE_TOKEN, precision="bf16").state_dict())
    assert {parameter.dtype for parameter in theirs.parameters()} == {torch.bfloat16}
    assert theirs.model.language_model.rotary_emb.inv_freq.dtype == torch.float32
