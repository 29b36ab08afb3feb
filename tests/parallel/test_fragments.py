import itertools
import random
from math import prod

import pytest
import torch
from megatron.core.dist_checkpointing.mapping import ShardedTensor, ShardedTensorFactory

from parallel.errors import CheckpointError
from parallel.fragments import boxes, fragment_pieces


@pytest.mark.parametrize("shape", [(7,), (4, 5), (1, 6), (3, 1, 4), (2, 3, 4), (2, 2, 3, 2), ()])
def test_boxes_are_the_range_in_its_order_and_few(shape):
    numbers = torch.arange(prod(shape)).view(shape)
    for start, stop in itertools.combinations(range(prod(shape) + 1), 2):
        found = list(boxes(shape, start, stop))
        cut = [numbers[tuple(slice(o, o + n) for o, n in zip(*box))].flatten() for box in found]
        assert torch.cat(cut).tolist() == list(range(start, stop)), (start, stop)
        assert len(found) <= max(2 * len(shape) - 1, 1)
        assert all(box.is_contiguous() for box in cut)


def test_nothing_is_no_box():
    assert list(boxes((3, 4), 5, 5)) == list(boxes((0, 4), 0, 0)) == []


def tensor_entry(local, replica=(0, 0, 0)):
    """Rank 1 of 2 along the first axis, in a stack of 3 layers."""
    return ShardedTensor.from_rank_offsets(
        "weight", local, (0, 2, 3), (1, 1, 2), prepend_axis_num=1, replica_id=replica
    )


def halves(key, data, replica_id, _):
    """Gate and up of one parameter."""
    gate, up = data.chunk(2, 0)
    return {
        name: ShardedTensor.from_rank_offsets(f"{key}.{name}", part, (0, 1, 2), replica_id=replica_id)
        for name, part in (("gate", gate), ("up", up))
    }


def assembled(entry, whole, ends):
    """Global tensors put together from the fragments between `ends` of a local one."""
    found = {}
    for start, stop in itertools.pairwise(ends):
        flat = whole.flatten()[start:stop]
        for piece in fragment_pieces(entry, flat, start, "model."):
            assert piece.tensor.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
            target = found.setdefault(piece.key, torch.full(piece.shape, -1.0))
            for axis, (offset, size) in enumerate(zip(piece.offset, piece.view().shape)):
                target = target.narrow(axis, offset, size)
            assert (target == -1.0).all(), "written twice"
            target.copy_(piece.view())
    return found


def test_the_fragments_of_all_ranks_make_the_tensor_wherever_it_was_cut():
    whole, draw = torch.arange(5 * 6, dtype=torch.float32).view(5, 6) + 1, random.Random(0)
    for _ in range(50):
        ends = sorted([0, *draw.sample(range(31), 3), 30])
        found = assembled(tensor_entry(whole), whole, ends)
        assert torch.equal(found["model.weight"][2, 5:], whole)
        assert (found["model.weight"][:2] == -1).all() and (found["model.weight"][2, :5] == -1).all()


def test_a_parameter_of_two_halves_is_cut_at_any_place():
    whole, draw = torch.arange(8 * 3, dtype=torch.float32).view(8, 3) + 1, random.Random(1)
    entry = ShardedTensorFactory("fc1", whole, halves, lambda parts: parts, (0, 0, 1))
    for _ in range(50):
        found = assembled(entry, whole, sorted([0, *draw.sample(range(25), 3), 24]))
        assert torch.equal(found["model.fc1.gate"][4:], whole[:4])
        assert torch.equal(found["model.fc1.up"][4:], whole[4:])


def test_every_data_rank_writes_its_fragment_and_one_tensor_rank_each():
    whole = torch.ones(4, 2)
    for replica, first in (((0, 0, 0), True), ((0, 0, 3), True), ((0, 1, 0), False), ((1, 0, 2), False)):
        parts = list(fragment_pieces(tensor_entry(whole, replica), whole.flatten()[1:4], 1, ""))
        assert parts and all(piece.first is first for piece in parts)


def test_parts_that_do_not_lie_in_one_piece_are_refused():
    def columns(key, data, replica_id, _):
        left, right = data.chunk(2, 1)
        return {
            name: ShardedTensor.from_rank_offsets(f"{key}.{name}", part)
            for name, part in (("l", left), ("r", right))
        }

    whole = torch.ones(4, 2)
    entry = ShardedTensorFactory("w", whole, columns, lambda parts: parts, (0, 0, 0))
    with pytest.raises(CheckpointError, match=r"w\.l does not lie in one piece"):
        list(fragment_pieces(entry, whole.flatten(), 0, ""))
