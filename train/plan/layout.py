"""The plan of one layout: what each rank holds, does, sends and keeps, and how long a step would take."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from parallel.topology import Topology
from train.config import Config, ParallelConfig
from train.model.placement import Part, embedding_stage, parts
from train.plan.config import DeviceConfig
from train.plan.holdings import Holding, describe, holdings
from train.plan.memory import Memory, memory
from train.plan.pieces import Piece, Pieces, names_in, pages_in_row
from train.plan.schedule import Timing, most_kept, simulate
from train.plan.trace import Work, added
from train.plan.traffic import Wires, data_seconds, data_traffic, update_seconds


@dataclass(frozen=True)
class StagePlan:
    """One pipeline rank; its tensor, expert and data-parallel neighbours are alike.

    flops: a step's, operations that are computed again included. sent: bytes a step by kind. bubble: share of the pipeline's
    time in which it waits. seconds: of one micro-batch, forward and backward, messages within them included.
    """

    holds: str
    holding: Holding
    memory: Memory
    flops: float
    sent: dict[str, float]
    bubble: float
    seconds: float


@dataclass(frozen=True)
class Plan:
    """A layout. model_flops: of a step, by the whole model, nothing twice and causal attention halved; the measure of MFU."""

    topology: Topology
    stages: list[StagePlan]
    micro_batches: int
    tokens: int
    pages: int
    model_flops: float
    seconds: float
    device: DeviceConfig
    precision: str

    @property
    def fullest(self) -> float:
        """Bytes on the fullest device."""
        return max(stage.memory.total for stage in self.stages)

    @property
    def fits(self) -> bool:
        """Whether every rank fits on its device."""
        return self.fullest <= self.device.capacity

    @property
    def mfu(self) -> float:
        """Share of the devices' peak that the model's own FLOPs are."""
        peak = 1e12 * self.device.peak(self.precision)
        return self.model_flops / (self.seconds * self.topology.world * peak)


def topology_of(config: Config, world: int) -> Topology:
    """The grid of `world` processes in the layout of `config`."""
    sizes = config.parallel
    return Topology.of_world(world, sizes.tensor, sizes.pipeline, sizes.expert, sizes.virtual, embedding_stage(sizes))


def plan(config: Config, world: int, pieces: Pieces, model_flops: float) -> Plan:
    """The plan of `config` on `world` processes. model_flops: of one row."""
    topology = topology_of(config, world)
    return _Planner(config, pieces.piece, holdings(config, topology), topology, pieces.device).plan(model_flops)


def estimate(config: Config, world: int, pieces: Pieces, model_flops: float) -> Plan:
    """`plan`, a thousand times faster once pieces of one and two rows are recorded: what larger micro-batches cost is drawn out
    from these, and what ranks hold added up (an embedding that is tied to the head, on one rank, counts twice)."""
    topology, decoder = topology_of(config, world), config.model.decoder
    found = [Holding()] * topology.pipeline
    for index, part in enumerate(parts(config.parallel, decoder.layers)):
        for name in names_in(part, decoder):
            own = pieces.piece(name, config.parallel, config.engine.recompute, 1).holding
            found[index % topology.pipeline] += own
    return _Planner(config, pieces.scaled, found, topology, pieces.device).plan(model_flops)


def flops_of_row(config: Config, pieces: Pieces) -> float:
    """Of the whole model, forward and backward, for one row: on one process, nothing computed again."""
    single, decoder = ParallelConfig(), config.model.decoder
    names = names_in(Part(layers=decoder.layers), decoder)
    work = [pieces.piece(name, single, "none", 1).cost for name in names]
    return sum(own_flops(cost.forward) + own_flops(cost.backward) for cost in work)


def own_flops(work: Work) -> float:
    """Those of `work` that an implementation which skips what is masked would do."""
    return work.flops - work.skipped


class _Planner:
    def __init__(
        self, config: Config, record: Callable[..., Piece], held: list[Holding], topology: Topology, device: DeviceConfig
    ) -> None:
        self.config, self.holdings, self.topology = config, held, topology
        self.device, self.wires = device, Wires(topology, device)
        rows, decoder = config.data.micro_batch, config.model.decoder
        self.micro_batches = config.data.global_batch // (rows * topology.data)
        piece = partial(record, sizes=config.parallel, recompute=config.engine.recompute, rows=rows)
        self.contents = [[piece(name) for name in names_in(part, decoder)] for part in parts(config.parallel, decoder.layers)]

    def plan(self, model_flops: float) -> Plan:
        forward, backward = ([self._seconds(piece, backward) for piece in self.contents] for backward in (False, True))
        message = [self._message(piece) for piece in self.contents]
        timing = simulate(forward, backward, message, self.topology.pipeline, self.micro_batches)
        data, engine = self.config.data, self.config.engine
        stages = [self._stage(rank, timing, forward, backward) for rank in range(self.topology.pipeline)]
        after = max(
            data_seconds(self._data(rank), self.holdings[rank], self.wires, engine, self.micro_batches)
            + update_seconds(self.holdings[rank], engine, self.topology, self.device)
            for rank in range(self.topology.pipeline)
        )
        return Plan(
            self.topology,
            stages,
            self.micro_batches,
            data.global_batch * data.max_length,
            data.global_batch * pages_in_row(self.config),
            model_flops * data.global_batch,
            timing.seconds + after,
            self.device,
            engine.precision,
        )

    def _stage(self, rank: int, timing: Timing, forward: list[float], backward: list[float]) -> StagePlan:
        own = slice(rank, None, self.topology.pipeline)
        mine = self.contents[own]
        costs = [piece.cost for content in mine for piece in content]
        work = sum((cost.forward + cost.backward for cost in costs), Work()).times(self.micro_batches)
        return StagePlan(
            describe(self.config, rank),
            self.holdings[rank],
            memory(self.holdings[rank], self.config.engine, self.topology, self._activations(rank, mine)),
            own_flops(work),
            added(added(work.sent, self._pipeline(rank)), self._data(rank)),
            timing.bubble[rank],
            sum(forward[own]) + sum(backward[own]),
        )

    def _activations(self, rank: int, mine: list[list[Piece]]) -> float:
        """What micro-batches under way keep, the tensors sent to the next stage too, and what the worst piece needs for a moment."""
        last = self.contents[-1]
        kept = [
            sum(piece.cost.kept for piece in content) + (0 if content is last else content[-1].handed_on) for content in mine
        ]
        passing = max((piece.cost.passing for content in mine for piece in content), default=0.0)
        # each piece holds the tensor it received last, and its gradient, until the next one comes
        before = [self.contents[piece - 1] for piece in range(rank, len(self.contents), self.topology.pipeline) if piece]
        received = 2 * sum(content[-1].handed_on for content in before)
        return most_kept(rank, self.topology.pipeline, self.micro_batches, kept) + passing + received

    def _seconds(self, content: list[Piece], backward: bool) -> float:
        works = [piece.cost.backward if backward else piece.cost.forward for piece in content]
        return sum(work.seconds + self.wires.seconds(work) for work in works)

    def _message(self, content: list[Piece]) -> float:
        if self.topology.pipeline == 1:
            return 0.0
        return content[-1].handed_on / self.wires.bandwidth("pipeline") + self.wires.latency(1)

    def _pipeline(self, rank: int) -> dict[str, float]:
        """Activations sent on and gradients sent back."""
        if self.topology.pipeline == 1:
            return {}
        last, size = len(self.contents) - 1, 0
        for piece in range(rank, len(self.contents), self.topology.pipeline):
            size += self.contents[piece][-1].handed_on if piece < last else 0
            size += self.contents[piece - 1][-1].handed_on if piece else 0
        return {"pipeline": float(size * self.micro_batches)}

    def _data(self, rank: int) -> dict[str, float]:
        return data_traffic(self.holdings[rank], self.config.engine, self.topology, self.micro_batches)

