"""The pieces of a pipeline, one after the other in one process, are the whole model: outputs, gradients,
checkpoint keys, first weights.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from megatron.core import parallel_state

from parallel.layers import Chunks
from parallel.snapshot import cut, describe
from tests.train.model.small_model import gradient_pieces, objective, text_only, without_zeros
from train.config import ModelConfig, ParallelConfig
from train.model.names import whole_names
from train.model.optical import OpticalModel, build

pytestmark = pytest.mark.usefixtures("one_process")

LAYOUTS = {
    "two stages": ParallelConfig(pipeline=2),
    "encoder alone": ParallelConfig(pipeline=2, encoder_stages=1),
    "as in the paper": ParallelConfig(pipeline=4, encoder_stages=2),
    "all layers, then the head": ParallelConfig(pipeline=3, decoder_layers=[0, 3, 0]),
    "interleaved": ParallelConfig(pipeline=2, virtual=2),
}


@contextmanager
def as_rank(rank: int, sizes: ParallelConfig) -> Iterator[None]:
    """This process as one pipeline rank of several, as far as building a model goes."""
    parallel_state.set_pipeline_model_parallel_rank(rank)
    parallel_state.set_virtual_pipeline_model_parallel_world_size(
        sizes.virtual if sizes.virtual > 1 else None
    )
    try:
        yield
    finally:
        parallel_state.set_pipeline_model_parallel_rank(None)
        parallel_state.set_virtual_pipeline_model_parallel_world_size(None)


def ranks_of(
    model: ModelConfig, image_token: int, sizes: ParallelConfig, **options
) -> list[OpticalModel | Chunks]:
    """What each pipeline rank builds."""
    found = []
    for rank in range(sizes.pipeline):
        with as_rank(rank, sizes):
            found.append(build(model, image_token, sizes, seed=3, **options))
    return found


def chain(ranks: list[OpticalModel | Chunks]) -> list[OpticalModel]:
    """Their pieces in the order in which a micro-batch passes them."""
    held = [list(rank.pieces) if isinstance(rank, Chunks) else [rank] for rank in ranks]
    return [pieces[index] for index in range(len(held[0])) for pieces in held]


def run(pieces: list[OpticalModel], sizes: ParallelConfig, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """(logits, sum of the objectives of all pieces); each piece gets what the one before made."""
    hidden, total = None, torch.zeros(())
    for index, piece in enumerate(pieces):
        with as_rank(index % sizes.pipeline, sizes):
            piece.set_input_tensor([hidden])
            output = piece(batch, with_glyphs=True)
        hidden, total = output.hidden, total + objective(output)
        assert (hidden is None) == (output.logits is not None) == (index == len(pieces) - 1)
        assert hidden is None or (hidden.dim() == 3 and hidden.is_contiguous() and hidden._base is None)
    return output.logits, total


def shapes(module: torch.nn.Module) -> set:
    """Every piece of every global tensor that is here."""
    return {
        (piece.key, piece.shape, piece.offset)
        for entry in describe(module)
        for piece in cut(entry, entry.data, "")
    }


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_pieces_in_a_row_are_the_whole_model(small, image_token, pages, layout: str, tied: bool) -> None:
    """fp32: the pieces do the same sums in the same order but for the dispatcher of tokens to experts, which is
    another one as soon as ranks communicate, and adds up a token's experts in another order.
    """
    small.decoder.tied_embeddings = tied
    sizes = LAYOUTS[layout]
    whole = without_zeros(build(small, image_token, seed=3))
    expected = whole(pages, with_glyphs=True)
    objective(expected).backward()
    wanted = {(key, str(at)): value for key, _, at, value in gradient_pieces(whole)}

    ranks = [without_zeros(rank) for rank in ranks_of(small, image_token, sizes)]
    logits, total = run(chain(ranks), sizes, pages)
    total.backward()
    torch.testing.assert_close(logits, expected.logits, rtol=1e-6, atol=1e-6)
    found: dict = {}
    for rank in ranks:
        for key, _, at, value in gradient_pieces(rank):
            found[key, str(at)] = found.get((key, str(at)), 0.0) + value  # both copies of a tied embedding
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert np.abs(found[name] - value).max() <= 2e-6 * np.abs(value).max() + 1e-9, name


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_checkpoint_keys_and_first_weights_do_not_depend_on_the_layout(
    small, image_token, layout: str, tied: bool
) -> None:
    small.decoder.tied_embeddings = tied
    whole = build(small, image_token, seed=3)
    ranks = ranks_of(small, image_token, LAYOUTS[layout])
    assert set().union(*(shapes(rank) for rank in ranks)) == shapes(whole)
    values = {
        str(piece.key) + str(piece.offset): piece.tensor
        for e in describe(whole)
        for piece in cut(e, e.data, "")
    }
    for rank in ranks:
        for entry in describe(rank):
            for piece in cut(entry, entry.data, ""):
                assert torch.equal(piece.tensor, values[str(piece.key) + str(piece.offset)]), piece.key
    names = whole_names(whole)
    assert set().union(*(whole_names(rank) for rank in ranks)) == set(names)
    for rank in ranks:
        for name, parameter in whole_names(rank).items():
            assert torch.equal(parameter, names[name]), name


def test_a_piece_holds_nothing_of_the_others(small, image_token) -> None:
    window, middle, first, last = ranks_of(small, image_token, LAYOUTS["as in the paper"])
    assert not hasattr(window, "decoder") and not hasattr(first, "encoder") and not hasattr(last, "encoder")
    assert {name.split(".")[1] for name, _ in window.named_parameters()} == {"window", "compressor", "patch"}
    assert {name.split(".")[1] for name, _ in middle.named_parameters()} == {
        "global", "projector", "newline", "separator", "embedding", "token",
    }  # fmt: skip
    everything = build(small, image_token)
    count = sum(p.numel() for rank in (window, middle, first, last) for p in rank.parameters())
    assert count == sum(p.numel() for p in everything.parameters())


def test_a_tied_matrix_is_marked_for_the_sum_of_its_gradients_and_counted_once(small, image_token) -> None:
    small.decoder.tied_embeddings = True
    for layout in ("two stages", "as in the paper", "interleaved"):
        marked = [
            (name, getattr(parameter, "shared", False))
            for rank in ranks_of(small, image_token, LAYOUTS[layout])
            for name, parameter in rank.named_parameters()
            if getattr(parameter, "shared_embedding", False)
        ]
        assert [name.split(".")[-2] for name, _ in marked] == ["word_embeddings", "output_layer"]
        assert [copy for _, copy in marked] == [False, True]
    whole = build(small, image_token)
    assert whole.decoder.output_layer.weight is whole.decoder.embedding.word_embeddings.weight


def test_text_only_batches_pass_all_stages_and_leave_zero_gradients(small, image_token, pages) -> None:
    pages = text_only(pages)
    sizes = LAYOUTS["as in the paper"]
    pieces = chain(ranks_of(small, image_token, sizes))
    run(pieces, sizes, pages)[1].backward()
    assert all(p.grad is not None for piece in pieces for p in piece.parameters())


def test_the_features_of_a_frozen_stage_need_no_gradient_and_the_next_one_learns(
    small, image_token, pages
) -> None:
    sizes = LAYOUTS["as in the paper"]
    window, *rest = chain(ranks_of(small, image_token, sizes))
    window.requires_grad_(False)
    with as_rank(0, sizes):
        window.set_input_tensor(None)
        hidden = window(pages).hidden
    assert hidden.shape == (32, 1, 48) and not hidden.requires_grad
    _, total = run([window, *rest], sizes, pages)
    total.backward()
    assert all(p.grad is not None for piece in rest for p in piece.parameters())
