"""Parameters that stage 3 has split, whole for as long as they are looked at between steps."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch


@contextmanager
def gathered(parameters: Iterable[torch.nn.Parameter]) -> Iterator[None]:
    """Inside, every one of `parameters` has its whole value, which must only be read; afterwards each data rank has its part
    again. All data ranks enter it together. In stages 1 and 2 weights are whole anyway.
    """
    split = [parameter for parameter in parameters if hasattr(parameter, "ds_tensor")]
    if not split:
        yield
        return
    from deepspeed import zero
    from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus

    for parameter in split:
        if parameter.ds_status == ZeroParamStatus.INFLIGHT:  # type: ignore[attr-defined]
            parameter._z3_optimizer._partition_all_parameters()  # type: ignore[attr-defined]  # fetched ahead, never used
    with zero.GatheredParameters(split):
        yield
