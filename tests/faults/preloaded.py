"""What the server that ranks are forked from has imported: all that `python -m train` imports, and nothing begun."""

import warnings

warnings.filterwarnings("ignore", module=r"megatron\.")  # "Apex is not installed", six times
warnings.filterwarnings("ignore", category=FutureWarning)

import deepspeed
import hydra.compose

import parallel.checkpoint_writer
import train.stage
import train.validate
