"""`python -m train.cache_teacher teacher=… out=…`: a teacher's predictions as shards, for distill.cache."""

import sys

from conf.command import run
from train.cache_teacher.command import main
from train.cache_teacher.config import CacheConfig, check

DESCRIPTION = """Reads the samples of shard sets with a trained model and writes, for every position of their texts, its likeliest
tokens with their log-probabilities, and the sum of all others: webdataset shards with the keys of the data, for students of any
layout and resolution that share its tokenizer (python -m train stage=distill distill=cached distill.cache=FOLDER). Under torchrun
or srun each process reads its share of the shards; tensor=2 splits the teacher over two. Stop it anywhere: the same command goes
on with the shards that are missing."""
EXAMPLES = (
    "python -m train.cache_teacher teacher=runs/large out=runs/told",
    "python -m train.cache_teacher teacher=runs/large data=[runs/pages/train/ratio-4] modes=[96] out=runs/told top_k=128",
    "torchrun --nproc-per-node=4 -m train.cache_teacher teacher=runs/large tensor=2 out=runs/told",
    "python -m train stage=distill distill=cached distill.cache=runs/told",
)

if __name__ == "__main__":
    sys.exit(run(main, "cache_teacher", CacheConfig, None, DESCRIPTION, EXAMPLES, check))
