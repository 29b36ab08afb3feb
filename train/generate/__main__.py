"""`python -m train.generate checkpoint=… image=…`: page(s) to text, written as it is read."""

import sys

from conf.command import run
from train.generate.command import main
from train.generate.config import GenerateConfig, check

DESCRIPTION = (
    """Reads pictures of pages with a trained model and prints what they say, greedily, as it is decoded."""
)
EXAMPLES = (
    "python -m train.generate checkpoint=runs/smoke/pretrain image=page.png",
    "python -m train.generate checkpoint=runs/smoke/pretrain image='scans/*.png' max_new_tokens=400",
)

if __name__ == "__main__":
    sys.exit(run(main, "generate", GenerateConfig, None, DESCRIPTION, EXAMPLES, check))
