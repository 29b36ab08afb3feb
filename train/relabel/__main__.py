"""`python -m train.relabel teacher=… out=…`: black-box distillation, a teacher's texts as data."""

import sys

from conf.command import run
from train.relabel.command import main
from train.relabel.config import RelabelConfig, check

DESCRIPTION = """Black-box distillation: reads the pages of shard sets with a trained model and writes the same pages with what it
read as their text, which nothing but its output is needed for: the student may have any tokenizer, and trains on the new shard
sets as on any others. `source` of a sample says who read it. Greedy. Left out, and counted in manifest.json: samples without a
page or with several, pages that do not fit, texts without an end. Under torchrun or srun each process reads its share of the
shards; tensor=2 splits the teacher over two. Stop it anywhere: the same command goes on with the shards that are missing."""
EXAMPLES = (
    "python -m train.relabel teacher=runs/large data=[runs/pages/train/ratio-4] out=runs/read/train",
    "python -m train.relabel teacher=runs/imported data=[runs/scans] mode=gundam out=runs/read max_new_tokens=4000",
    "python -m train stage=pretrain +data.train.read.path=runs/read/train/ratio-4",
)

if __name__ == "__main__":
    sys.exit(run(main, "relabel", RelabelConfig, None, DESCRIPTION, EXAMPLES, check))
