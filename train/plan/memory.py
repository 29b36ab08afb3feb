"""Bytes that training keeps on a rank, by ZeRO stage and precision, as DeepSpeed 0.19.8 really allocates them.

The formulas are fitted to a real engine, with its reduction buckets large and small (tests/train/test_plan_memory.py holds
them against one). In bytes a trained parameter, d the data-parallel ranks that share it:

                 weights   gradients          optimizer   while gradients are reduced
    stage 1 fp32    4          4                12 / d    a bucket of 4
            bf16    2          4                12 / d    4 (it copies what it reduces, 5e8 numbers at a time)
    stage 2 fp32    4      up to 8 / d          12 / d    two buckets of 4
            bf16    2          4 / d            12 / d    two buckets of 4
    stage 3       4 or 2 / d   4 / d            12 / d    two buckets of 4, and the weights in use, whole

Masters, and both moments of AdamW, are fp32. Stage 1 reduces when all activations are gone, the others during backward.
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
    """Bytes of one rank. activations: kept for micro-batches under way, and passing ones. buffers: of the reduction.
    host: of an offloaded optimizer, not on the device."""

    weights: float
    gradients: float
    optimizer: float
    buffers: float
    activations: float
    host: float
    together: bool  # whether buffers are needed beside activations, and not after them

    @property
    def total(self) -> float:
        """On the device, at the worst moment."""
        kept = self.weights + self.gradients + self.optimizer
        return kept + (self.buffers + self.activations if self.together else max(self.buffers, self.activations))


def memory(holding: Holding, engine: EngineConfig, topology: Topology, activations: float) -> Memory:
    """Of a rank that holds `holding`, with `activations` bytes at the worst moment."""
    shares = copies(holding, topology, engine.zero)
    split = sum(count / ranks for count, ranks in shares)  # trained numbers, shared out
    trained, zero, bf16 = float(holding.trained), engine.zero, engine.precision == "bf16"
    weights, buffers = float(holding.weight_bytes), 0.0
    bucket = max(holding.largest, min(trained, _BUCKET))
    if zero == 1:
        gradients = _FP32 * trained
        buffers = _FP32 * (min(max(count for count, _ in shares), _REDUCED_AT_ONCE) if bf16 else bucket)
    elif zero == 2:
        gradients = _FP32 * split * (1 if bf16 else 2)
        buffers = 2 * _FP32 * bucket
    else:
        whole = weights
        weights /= topology.data
        gradients = _FP32 * split
        buffers = 2 * _FP32 * bucket
        if topology.data > 1:
            buffers += whole * min(1.0, _WHOLE_AT_ONCE / max(holding.parameters, 1))
    optimizer, host = 3 * _FP32 * split, 0.0
    if engine.offload:
        host = optimizer + 2 * _FP32 * split
        optimizer = 0.0
    return Memory(weights, gradients, optimizer, buffers, activations, host, together=zero > 1)


def copies(holding: Holding, topology: Topology, zero: int) -> list[tuple[int, int]]:
    """(trained numbers, ranks that hold them and share their optimizer state): experts' apart from the others'. Stage 3 takes
    experts for ordinary parameters."""
    if zero == 3:
        return [(holding.trained, topology.data), (0, 1)]
    replicas = topology.tensor * topology.data // topology.expert
    return [(holding.trained - holding.trained_experts, topology.data), (holding.trained_experts, replicas)]
