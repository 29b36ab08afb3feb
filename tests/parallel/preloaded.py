"""What the server of `ranks` imports once, for all ranks that are forked from it."""

import warnings

# as parallel.topology.start silences them, and pytest
warnings.filterwarnings("ignore", category=UserWarning, module=r"megatron\.")
warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
warnings.filterwarnings("ignore", category=DeprecationWarning)

import deepspeed  # noqa: E402, F401
import hydra.compose  # noqa: E402, F401

import parallel.engine  # noqa: E402, F401
import train.stage  # noqa: E402
import train.validate  # noqa: E402, F401
