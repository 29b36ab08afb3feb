"""What the server that ranks are forked from has imported: all that `python -m train` imports, and nothing begun."""

import importlib
import warnings

warnings.filterwarnings("ignore", module=r"megatron\.")  # "Apex is not installed", six times
warnings.filterwarnings("ignore", category=FutureWarning)
for _name in ("hydra.compose", "deepspeed", "train.stage", "train.validate"):
    importlib.import_module(_name)
