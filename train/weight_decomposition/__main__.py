"""`python -m train.weight_decomposition`: the controlled comparison of full fine-tuning, LoRA and DoRA, or real runs."""

import sys
import warnings
from pathlib import Path

from conf.command import run
from train.weight_decomposition.config import FigureConfig, check

DESCRIPTION = """How far training moves weights, by length and by direction of their rows (DoRA, section 3.2). Without runs=: the controlled
comparison, in which full fine-tuning and DoRA show a negative correlation of the two and LoRA a positive one; exit code 1 where
they do not. It demonstrates the mechanism, that LoRA cannot change magnitudes without directions; it takes a rank far below
the width, a change of direction of no higher rank, and magnitudes that change by random signs. It is no evidence that every
fine-tuning shows these signs. With runs=: the rows that real runs wrote (stage.weight_decomposition.every=50), beside each other,
reported and not judged."""
EXAMPLES = (
    "python -m train.weight_decomposition",
    "python -m train stage=dora from=runs/pretrain stage.weight_decomposition.every=50",
    "python -m train.weight_decomposition runs=[runs/full,runs/lora,runs/dora] out=runs/moves",
)


def main(config: FigureConfig) -> int:
    """Draws; 1 where the controlled comparison did not show the signs."""
    # "Apex is not installed", six times
    warnings.filterwarnings("ignore", category=UserWarning, module=r"megatron\.")
    from train.weight_decomposition.command import compare, show

    out = Path(config.out)
    return show(config.runs, out) if config.runs else compare(config.seeds, out)


if __name__ == "__main__":
    sys.exit(run(main, "weight_decomposition", FigureConfig, None, DESCRIPTION, EXAMPLES, check))
