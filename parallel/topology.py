"""The grid of processes: its sizes, who this process is in it, and the process groups.

Importing this file loads neither torch nor megatron-core, so that a configuration is checked in milliseconds;
`start` loads both. One process without any environment variable is a full grid of one, with real groups:
no code elsewhere has a special path for it.
"""

import hashlib
import os
import warnings
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from parallel.errors import ParallelError, UnsupportedLayout
from parallel.rendezvous import meeting_point

_seed = 0  # as given to `start`


@dataclass(frozen=True)
class Topology:
    """How many ways each thing is split. Expert groups are laid over the tensor and data ranks.

    tensor: ways a matrix is split. pipeline: groups of layers. expert: groups of experts. data: copies of the model.
    virtual: pieces of each pipeline stage. embedding_stage: the pipeline stage that holds the token embedding.
    """

    tensor: int = 1
    pipeline: int = 1
    expert: int = 1
    data: int = 1
    virtual: int = 1
    embedding_stage: int = 0

    @property
    def world(self) -> int:
        """Processes in all."""
        return self.tensor * self.pipeline * self.data

    @classmethod
    def of_world(
        cls,
        world: int,
        tensor: int = 1,
        pipeline: int = 1,
        expert: int = 1,
        virtual: int = 1,
        embedding_stage: int = 0,
    ) -> "Topology":
        """The topology of `world` processes; what tensor and pipeline leave over is data parallel.

        Raises UnsupportedLayout when the sizes do not divide the world.
        """
        for name, size in (("tensor", tensor), ("pipeline", pipeline), ("expert", expert)):
            if size < 1:
                raise UnsupportedLayout(
                    f"parallel.{name}={size} is not a size: choose parallel.{name}=1 or more."
                )
        model = tensor * pipeline
        if world % model:
            raise UnsupportedLayout(
                f"{world} processes cannot be divided into groups of parallel.tensor={tensor} x "
                f"parallel.pipeline={pipeline} = {model}: start a multiple of {model} processes, or choose sizes "
                f"whose product divides {world}."
            )
        topology = cls(tensor, pipeline, expert, world // model, virtual, embedding_stage)
        topology.check()
        return topology

    def for_megatron(self) -> dict[str, Any]:
        """The sizes as megatron-core's `initialize_model_parallel` wants them."""
        return {
            "tensor_model_parallel_size": self.tensor,
            "pipeline_model_parallel_size": self.pipeline,
            "virtual_pipeline_model_parallel_size": self.virtual if self.virtual > 1 else None,
            "expert_model_parallel_size": self.expert,
            "expert_tensor_parallel_size": 1,
            "get_embedding_ranks": self.ranks_with_embeddings,  # for a matrix that embeds tokens and gives their logits
        }

    def ranks_with_embeddings(self, stages: list[int], *_: object) -> list[int]:
        """Of the ranks of one pipeline: those that hold the token embedding and the output layer."""
        return sorted({stages[self.embedding_stage], stages[-1]})

    def check(self) -> None:
        """Raises UnsupportedLayout, with the override to use, when the sizes contradict each other."""
        for name, size in (("tensor", self.tensor), ("pipeline", self.pipeline), ("expert", self.expert)):
            if size < 1:
                raise UnsupportedLayout(
                    f"parallel.{name}={size} is not a size: choose parallel.{name}=1 or more."
                )
        if self.virtual < 1 or (self.virtual > 1 and self.pipeline == 1):
            raise UnsupportedLayout(
                f"parallel.virtual={self.virtual}: pieces of a pipeline stage, 1 or more, and more than 1 only with "
                "parallel.pipeline=2 or more. Choose parallel.virtual=1."
            )
        if self.data < 1:
            raise UnsupportedLayout(f"data={self.data} copies of the model: there must be one or more.")
        stage = self.tensor * self.data
        if stage % self.expert:
            valid = max(size for size in range(1, self.expert + 1) if stage % size == 0)
            raise UnsupportedLayout(
                f"parallel.expert={self.expert} does not divide the {stage} ranks of a pipeline stage "
                f"(tensor {self.tensor} x data {self.data}): choose parallel.expert={valid}."
            )


def environment() -> tuple[int, int, int]:
    """(rank, world, local rank) of this process: from torchrun's variables, else srun's, else (0, 1, 0).

    Raises ParallelError when a variable is not a number or the rank is outside the world.
    """
    names = (
        ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        if "RANK" in os.environ
        else ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
    )
    values = []
    for name, default in zip(names, (0, 1, 0)):
        text = os.environ.get(name, str(default))
        if not text.isdecimal():
            raise ParallelError(
                f"The environment variable {name}={text!r} is not a number: unset it, or start with "
                f"torchrun or srun, which set it."
            )
        values.append(int(text))
    rank, world, local_rank = values
    if rank >= world:
        raise ParallelError(
            f"{names[0]}={rank} is outside {names[1]}={world}: both come from the launcher; unset them "
            f"to run one process."
        )
    return rank, world, local_rank


def start(topology: Topology, seed: int, timeout_seconds: float = 1800.0) -> None:
    """Joins the process groups of `topology` and seeds every random generator. Call once, in the training thread.

    gloo on CPU, nccl on CUDA. `timeout_seconds`: how long a collective waits for a hung peer before it raises.
    Data-parallel copies draw the same numbers; tensor, expert and pipeline ranks draw their own.
    Raises UnsupportedLayout when the launcher started another number of processes, ParallelError without a rendezvous.
    """
    topology.check()
    rank, world, local_rank = environment()
    if topology.world != world:
        raise UnsupportedLayout(
            f"The layout tensor {topology.tensor} x pipeline {topology.pipeline} x data {topology.data} needs "
            f"{topology.world} processes, {world} were started: start {topology.world}, or change the sizes."
        )
    os.environ.update(meeting_point(os.environ) if world > 1 else {})
    if world > 1 and not ("MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ):
        raise ParallelError(
            f"{world} processes have no meeting point: torchrun sets MASTER_ADDR and MASTER_PORT, srun's variables tell them; "
            "by hand, export the address of the first node and a free port."
        )
    _prepare_imports(local_rank)
    import torch
    import torch.distributed as dist

    from parallel import cpu
    from parallel.device import use_device

    if dist.is_initialized():
        raise ParallelError("parallel.topology.start was called twice: call stop() in between.")
    device = use_device(local_rank, world)
    cpu.install()
    backend, timeout = ("nccl" if device.type == "cuda" else "gloo"), timedelta(seconds=timeout_seconds)
    if world == 1:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, timeout=timeout)
    else:
        dist.init_process_group(backend, rank=rank, world_size=world, timeout=timeout)
    from megatron.core import parallel_state

    parallel_state.initialize_model_parallel(
        **topology.for_megatron(),
        distributed_timeout_minutes=timeout_seconds / 60,  # type: ignore[arg-type]  # becomes a timedelta
        create_gloo_process_groups=device.type == "cuda",  # on CPU every group is gloo already
    )
    global _seed
    _seed = seed
    seed_everything(seed)
    torch.distributed.barrier()


def seed_everything(seed: int) -> None:
    """Seeds torch (CPU and CUDA) and megatron-core's tracker; the process groups must exist."""
    import torch
    from megatron.core import parallel_state
    from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed

    seed += 100 * parallel_state.get_pipeline_model_parallel_rank()  # as megatron's own training script does
    torch.manual_seed(seed)
    model_parallel_cuda_manual_seed(seed, force_reset_rng=True)


def seed_anew(step: int) -> None:
    """Seeds every generator as a pure function of (seed of `start`, step): for a run that goes on in another layout."""
    digest = hashlib.sha256(f"{_seed} at {step}".encode()).digest()
    seed_everything(int.from_bytes(digest[:4], "little") >> 1)


def stop() -> None:
    """Leaves all process groups and forgets what megatron-core and DeepSpeed keep in globals. Safe to call twice."""
    import torch.distributed as dist

    if not dist.is_initialized():
        return
    from megatron.core import parallel_state
    from megatron.core.transformer.moe.moe_utils import MoEAuxLossAutoScaler

    from parallel import checkpoint_writer, deepspeed_compat

    checkpoint_writer.close_all()
    deepspeed_compat.forget()
    parallel_state.destroy_model_parallel()
    parallel_state.destroy_global_memory_buffer()
    MoEAuxLossAutoScaler.main_loss_backward_scale = None  # of another shape when set outside a schedule
    dist.destroy_process_group()


def _prepare_imports(local_rank: int) -> None:
    """What must hold before megatron-core and DeepSpeed are imported."""
    import torch

    # "Apex is not installed", six times; and what DeepSpeed calls by a name that torch will rename
    warnings.filterwarnings("ignore", category=UserWarning, module=r"megatron\.")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    os.environ.setdefault("LOCAL_RANK", str(local_rank))  # DeepSpeed asserts that a launcher has set it
    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"  # else DeepSpeed warns that it found no accelerator
        os.environ.setdefault(
            "TORCHDYNAMO_DISABLE", "1"
        )  # compiling small CPU kernels costs more than it saves
