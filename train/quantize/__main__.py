"""`python -m train.quantize checkpoint=… to=…`: a trained model with rounded weights."""

import sys

from conf.command import run
from train.quantize.command import main
from train.quantize.config import RoundConfig, check

DESCRIPTION = """Rounds the weights of a trained model. A run of stage=qat is rounded to the integers that it was trained for; any other
to those of quantize=, by the nearest, or by AWQ or GPTQ, which look at pages. form=run writes a run folder whose weights have
the rounded values, which every other command takes; form=released writes packed integers and scales with DeepSeek-OCR's
names, in the format of compressed-tensors, smaller by as much as the weights are narrower."""
EXAMPLES = (
    "python -m train.quantize checkpoint=runs/qat to=runs/qat_int4 form=released",
    "python -m train.quantize checkpoint=runs/pretrain to=runs/gptq quantize=int4 method=gptq pages=64",
    "python -m train.evaluate checkpoint=runs/gptq",
)

if __name__ == "__main__":
    sys.exit(run(main, "round", RoundConfig, None, DESCRIPTION, EXAMPLES, check))
