"""Copies that stages 1 and 2 make of everything, and that can be done without in fp32."""

from typing import Any

from parallel.options import EngineOptions


def lean(engine: Any, options: EngineOptions) -> None:
    """Call it before the optimizer's states are linked to the parameters."""
    if options.zero > 2 or options.offload:
        return
    optimizer = engine.optimizer
    if options.precision != "fp32":
        return
    _share_masters(optimizer)
    alone = all(group.size() == 1 for group in optimizer.real_dp_process_group)
    if options.zero == 1 and alone and not optimizer.contiguous_gradients:
        # Gradients are flattened, divided by one, added up over one rank, and copied back.
        optimizer.buffered_reduce_fallback = _nothing


def _share_masters(optimizer: Any) -> None:
    """fp32 weights are their own masters: the optimizer updates this rank's part of them in place."""
    for index, masters in enumerate(optimizer.single_partition_of_fp32_groups):
        rank = optimizer.real_dp_process_group[index].rank()
        masters.data = optimizer.parallel_partitioned_bit16_groups[index][rank].data
    optimizer._link_all_hp_params()


def _nothing(*_: Any, **__: Any) -> None:
    """In place of a reduction over one rank."""
