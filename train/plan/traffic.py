"""Bytes that a rank sends in a step, by kind, and the time that messages take.

Ranks are numbered as megatron-core does: tensor neighbours first, then data-parallel ones, then pipeline stages. Collectives are
taken for rings; nothing is taken to overlap with computing, as DeepSpeed's stage 1 overlaps nothing.
"""

from collections.abc import Mapping

from parallel.topology import Topology
from train.config import EngineConfig
from train.plan.config import DeviceConfig
from train.plan.holdings import Holding
from train.plan.memory import copies
from train.plan.trace import Work

_WHOLE_AT_ONCE = 1e9
_BUCKET = 2**27


class Wires:
    """Bandwidths between the ranks of `topology` on machines of `device`."""

    def __init__(self, topology: Topology, device: DeviceConfig) -> None:
        self.topology, self.device = topology, device

    def seconds(self, work: Work) -> float:
        """Of the messages within a forward or backward."""
        return sum(
            size / self.bandwidth(kind) + self.latency(work.messages[kind]) for kind, size in work.sent.items()
        )

    def latency(self, messages: float) -> float:
        """Seconds that so many messages take at least."""
        return messages * 1e-6 * self.device.latency

    def bandwidth(self, kind: str) -> float:
        """Bytes a second that each rank sends at once, in the groups of this kind of message."""
        topology = self.topology
        if kind == "tensor":
            return self._ring(topology.tensor, 1)
        if kind == "expert":
            return self._all_to_all(topology.expert)
        if kind == "expert data":
            return self._ring(topology.tensor * topology.data // topology.expert, topology.expert)
        if kind == "pipeline":
            alone = topology.world <= self.device.ranks_per_node
            return 1e9 * (self.device.intra_node if alone else self.device.inter_node)
        return self._ring(topology.data, topology.tensor)

    def _ring(self, size: int, stride: int) -> float:
        """Members of a group in one node send to the next node side by side, each through its own network card."""
        device = self.device
        if size * stride <= device.ranks_per_node:
            return 1e9 * device.intra_node
        beside = max(1, device.ranks_per_node // stride)
        return 1e9 * min(device.intra_node, device.inter_node * beside)

    def _all_to_all(self, size: int) -> float:
        device = self.device
        inside = min(size, device.ranks_per_node)
        if size == inside:
            return 1e9 * device.intra_node
        leaving = (size - inside) / (size - 1)
        return 1e9 / max(leaving / device.inter_node, (1 - leaving) / device.intra_node)


def data_traffic(holding: Holding, engine: EngineConfig, topology: Topology, micro_batches: int) -> dict[str, float]:
    """Bytes that a rank sends in a step to reduce gradients and to give weights around, dense and "expert data".

    Gradients are reduced in fp32, once a step in stage 1, after every micro-batch in the others. Stage 3 fetches weights for every
    forward, and again for the backward where more than 1e9 numbers would stay whole.
    """
    weight = 2 if engine.precision == "bf16" else 4
    sent = {}
    for kind, (count, ranks) in zip(("data", "expert data"), copies(holding, topology, engine.zero)):
        once = (ranks - 1) / ranks * count
        if engine.zero == 3:
            fetched = 2 if holding.parameters > _WHOLE_AT_ONCE else 1
            size = micro_batches * (4 + weight * fetched) * once
        else:
            size = (2 * 4 * (1 if engine.zero == 1 else micro_batches) + weight) * once
        if size:
            sent[kind] = size
    return sent


def data_seconds(
    sent: Mapping[str, float], holding: Holding, wires: Wires, engine: EngineConfig, micro_batches: int
) -> float:
    """Of a step's `data_traffic`. In stage 3 weights are fetched matrix by matrix."""
    rounds = {1: 2, 2: 1 + micro_batches, 3: micro_batches * (1 + holding.matrices)}[engine.zero]
    return sum(
        size / wires.bandwidth(kind) + wires.latency(rounds * (1 + size / (4 * _BUCKET))) for kind, size in sent.items()
    )


def update_seconds(holding: Holding, engine: EngineConfig, topology: Topology, device: DeviceConfig) -> float:
    """Of AdamW: masters, moments and gradients read, and all but gradients written, in fp32; the norm before that."""
    numbers = sum(count / ranks for count, ranks in copies(holding, topology, engine.zero))
    bandwidth = device.host_bandwidth if engine.offload else device.memory_bandwidth
    return 40 * numbers / (1e9 * bandwidth)
