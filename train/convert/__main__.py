"""`python -m train.convert from=… to=…`: released weights to a run of ours, or a run to released weights."""

import sys

from conf.command import run
from train.convert.command import main
from train.convert.config import ConvertConfig, check

DESCRIPTION = """Converts DeepSeek-OCR's weights. From a released folder (safetensors, config.json, tokenizer.json) it makes a run
folder, which training can start from and generation can read; from a run it makes a released folder, which transformers loads."""
EXAMPLES = (
    "python -m train.convert from=DeepSeek-OCR to=runs/imported",
    "python -m train stage=pretrain stage.start_from=runs/imported",
    "python -m train.convert from=runs/pretrain to=released dtype=bf16",
)

if __name__ == "__main__":
    sys.exit(run(main, "convert", ConvertConfig, None, DESCRIPTION, EXAMPLES, check))
