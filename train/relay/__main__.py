"""`python -m train.relay run=runs/X`: gives wandb all that a run has written. A run with logger.wandb starts it by itself."""

import sys

from conf.command import run
from train.relay.config import RelayConfig, check

DESCRIPTION = """Gives wandb the metrics and samples that a run has written into its folder, as one run with a fixed id, each step
once. With logger.wandb=online (or offline) a run starts this beside itself; by hand it uploads a run that had none. It ends when
its standard input does, or at once where that is nothing."""
EXAMPLES = (
    "python -m train.relay run=runs/pretrain < /dev/null",
    "python -m train.relay run=runs/pretrain mode=offline < /dev/null",
)


def main(config: RelayConfig) -> int:
    """0 when wandb has all."""
    from train.relay.relay import relay

    return relay(config)


if __name__ == "__main__":
    sys.exit(run(main, "relay", RelayConfig, None, DESCRIPTION, EXAMPLES, check))
