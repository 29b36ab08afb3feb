"""`python -m train stage=…`: one stage, on one process, under torchrun, or under srun.

The configuration is composed and checked, and the signal handlers are in place, before torch is imported.
"""

import sys
from pathlib import Path

from conf.command import run
from parallel.determinism import reproducible
from parallel.topology import environment
from train.config import Config
from train.guard.memory import ending_out_of_memory
from train.launch.flight_recorder import keep_collectives
from train.launch.peers import ending_with_lost_peers
from train.launch.signals import StopFlag
from train.layout import topology_of
from train.validate import validate

DESCRIPTION = """Trains one stage of a model that reads pages from few vision tokens, on shards that
data_pipeline.build made. A stage is a configuration: where the weights start, which of them train, on which losses,
on which pages. The same command again continues an interrupted run from its newest valid checkpoint."""
EXAMPLES = (
    "python -m train stage=encoder",
    "python -m train stage=pretrain stage.start_from=runs/encoder/checkpoints optim.lr=2e-3",
    "python -m train stage=encoder stage.steps=20 run.name=try",
    "python -m train stage=qat quantize=int4 from=runs/pretrain        # from= is short for stage.start_from=",
    "python -m train stage=dora tune.rank=4 from=runs/pretrain stage.save_base=false",
    "python -m train stage=tune tune=p_tuning_v2 from=runs/pretrain",
    "python -m train stage=distill from=runs/small_one distill.teacher=runs/large_one",
    "python -m train -m optim.lr=1e-3,4e-3                      # two runs, one after the other",
    "torchrun --nproc-per-node 2 -m train data.micro_batch=8    # two data-parallel processes",
    "torchrun --nproc-per-node 4 -m train parallel=tp2_pp2 data.micro_batch=4    # one model over four processes",
    "torchrun --nproc-per-node 4 -m train parallel=pp2_ep2 data.micro_batch=4 resume=runs/pretrain run.name=other",
    "srun --ntasks 4 python -m train parallel=tp2_pp2 data.micro_batch=4",
)

PROGRAM = "python -m train"
SHORT = {"from": "stage.start_from"}


def main(config: Config) -> int:
    """Runs the stage; imports torch and all that follows. Returns 0, or 128 + the signal that stopped it. The
    process ends with 75 where another one is gone, and with 76 where memory is too small."""
    with StopFlag() as stop:
        from parallel.topology import start
        from parallel.topology import stop as leave

        rank, world, _ = environment()
        timeout = config.run.timeout
        try:
            peers, memory = ending_with_lost_peers(PROGRAM, rank, timeout), ending_out_of_memory(PROGRAM, rank)
            with peers, memory, reproducible(config.deterministic):
                keep_collectives(Path(config.run.directory) / config.run.name)
                start(topology_of(config.parallel, world), config.seed, timeout_seconds=timeout)
                from train import stage  # after start, which silences libraries

                finished = stage.run(config, stop, config.overrides).finished
        finally:
            leave()
        return 0 if finished else 128 + int(stop.signal or 0)


def check(config: Config) -> None:
    """Refuses impossible values for the processes that were started."""
    validate(config, environment()[1])


if __name__ == "__main__":
    sys.exit(run(main, "config", Config, None, DESCRIPTION, EXAMPLES, check, name_option="run.name", short=SHORT))
