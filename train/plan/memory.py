"""Bytes that training keeps on a rank, by ZeRO stage and precision, as DeepSpeed 0.19.8 really allocates them.

In bytes a trained parameter, d the data-parallel ranks that share it; "reduction" is what exists for a moment while gradients are
reduced, in buckets of at most 2^27 numbers:

                  weights      gradients   optimizer   reduction
    stage 1 fp32    4             4           8 / d    a bucket of 4
            bf16    2             4          12 / d    4, 5e8 numbers at a time
    stage 2 fp32    4           4 / d         8 / d    two buckets of 4, or one and 4 / d
            bf16    2           4 / d        12 / d    two buckets of 4
    stage 3       4 or 2 / d    4 / d        12 / d    two buckets of 4; a third one always; weights in use, whole

Masters, and both moments of AdamW, are fp32; in stages 1 and 2 weights in fp32 are their own masters, unless the optimizer is
offloaded. Gradients are reduced when all activations are gone: in stage 1 always, in the
others where one bucket holds them all. Fitted to a real engine with its buckets large and small, on 1, 2 and 4 ranks
(tests/train/plan/test_memory.py holds the formulas against one).
"""

from dataclasses import dataclass

from parallel.topology import Topology
from train.config import EngineConfig
from train.plan.holdings import Holding

_FP32 = 4
_BUCKET = 2**27  # numbers, parallel.deepspeed_compat.configuration
_REDUCED_AT_ONCE = 5e8  # numbers, DeepSpeed's buffered_allreduce_fallback
_WHOLE_AT_ONCE = 1e9  # numbers, DeepSpeed's stage3_max_live_parameters


@dataclass(frozen=True)
class Memory:
    """Bytes of one rank. reduction: for a moment, `beside` the activations or after them. buffers: always.

    activations: kept for micro-batches under way, and passing ones; in stage 3 also the weights that are whole for a while.
    host: of an offloaded optimizer, not on the device.
    """

    weights: float
    gradients: float
    optimizer: float
    buffers: float
    reduction: float
    activations: float
    host: float
    beside: bool

    @property
    def total(self) -> float:
        """On the device, at the worst moment."""
        standing = self.weights + self.gradients + self.optimizer + self.buffers
        both = (self.reduction, self.activations)
        return standing + (sum(both) if self.beside else max(both))


def memory(holding: Holding, engine: EngineConfig, topology: Topology, activations: float) -> Memory:
    """Of a rank that holds `holding`, with `activations` bytes at the worst moment."""
    shares = copies(holding, topology, engine.zero)
    split = sum(count / ranks for count, ranks in shares)  # trained numbers, shared out
    trained, bf16 = float(holding.trained), engine.precision == "bf16"
    weights, buffers = float(holding.weight_bytes), 0.0
    bucket = _FP32 * max(holding.largest, min(trained, _BUCKET))
    gradients, reduction = _FP32 * split, 2 * bucket
    if engine.zero == 1:
        gradients = _FP32 * trained
        reduction = _FP32 * min(max(count for count, _ in shares), _REDUCED_AT_ONCE) if bf16 else bucket
    elif engine.zero == 2 and not bf16:
        reduction = max(reduction, gradients + bucket)
    elif engine.zero == 3 and holding.trained:
        buffers = bucket
    if engine.zero == 3 and topology.data > 1:
        activations += weights * min(1.0, _WHOLE_AT_ONCE / holding.parameters)
        weights /= topology.data
    own_masters = engine.precision == "fp32" and engine.zero < 3 and not engine.offload
    optimizer, host = (2 if own_masters else 3) * _FP32 * split, 0.0
    if engine.offload:
        optimizer, host = 0.0, optimizer + 2 * _FP32 * split
    beside = engine.zero > 1 and trained > _BUCKET
    return Memory(weights, gradients, optimizer, buffers, reduction, activations, host, beside)


def copies(holding: Holding, topology: Topology, zero: int) -> list[tuple[int, int]]:
    """(trained numbers, ranks that hold them and share their optimizer state): experts' apart from the others'. Stage 3 takes
    experts for ordinary parameters."""
    if zero == 3:
        return [(holding.trained, topology.data), (0, 1)]
    replicas = topology.tensor * topology.data // topology.expert
    return [(holding.trained - holding.trained_experts, topology.data), (holding.trained_experts, replicas)]
