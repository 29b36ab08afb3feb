"""`python -m train.evaluate checkpoint=…`: how well a model reads its held-out pages, into evaluation.json."""

import sys

from conf.command import run
from train.evaluate.command import main
from train.evaluate.config import EvaluateConfig, check

DESCRIPTION = """Reads held-out pages with a trained model and measures what came back: precision and word precision at each compression
ratio, beside the floors of shuffled, blank and random-text pages, and image_gain. Writes evaluation.json and the sample pages that the
report shows. In one process, or in data-parallel ones under torchrun or srun."""
EXAMPLES = (
    "python -m train.evaluate checkpoint=runs/smoke/pretrain",
    "python -m train.evaluate checkpoint=runs/smoke/pretrain/checkpoints/step-00002000 pages=256 out=runs/longer",
    "python -m train.evaluate checkpoint=runs/smoke/pretrain data=runs/other_pages",
)

if __name__ == "__main__":
    sys.exit(run(main, "evaluate", EvaluateConfig, None, DESCRIPTION, EXAMPLES, check))
