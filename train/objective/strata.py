"""The loss of each sort of samples: sums over kinds and over compressions, made on the device from what the loss is made of.

Shapes: B rows, L positions, S samples, C strata (`data_pipeline.strata.COUNT`).
"""

import torch
from torch import Tensor

from data_pipeline.batch import MicroBatch
from data_pipeline.strata import COUNT
from parallel.layers import NO_LABEL

NAME = "strata"  # of the sums


def no_strata(batch: MicroBatch) -> Tensor:
    """[2 C] of a piece that has no loss: zeros."""
    return torch.zeros(2 * COUNT, dtype=torch.float64, device=batch.labels.device)


@torch.no_grad()
def strata_sums(each_BL: Tensor, batch: MicroBatch) -> Tensor:
    """fp64 [2 C]: the nats of each stratum's samples, then how many tokens those are of. each_BL: the nats of every position."""
    assert batch.strata is not None, "these rows are not of records: nobody knows what sort of samples they are"
    both = torch.stack([each_BL.double(), (batch.labels != NO_LABEL).double()])
    if batch.samples is None:
        of_samples = both.sum(2)
    else:  # what belongs to no sample has no label, and adds nothing to the first
        places = batch.samples.clamp(min=0).flatten()
        of_samples = both.new_zeros(2, len(batch.strata)).index_add_(1, places, both.flatten(1))
    kinds, compressions = batch.strata.unbind(1)
    found = both.new_zeros(2, COUNT).index_add_(1, kinds, of_samples).index_add_(1, compressions, of_samples)
    return found.flatten()
