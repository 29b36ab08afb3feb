"""`python -m train.surgery from=… to=… prune.…= grow.…= upcycle.…= factorize.…=`: a model of another size from a trained one."""

import sys

from conf.command import run
from train.surgery.command import main
from train.surgery.config import SurgeryConfig, check

DESCRIPTION = """Changes the size of a trained model and writes it as a run folder, which any stage starts from and everything else
reads. It prunes what matters least (by what real pages do in the model, or by the weights alone), makes experts of dense layers, grows
without changing what the model computes, and cuts matrices into two of a low rank; in this order where several are asked for. The
command of the next stage is printed at the end. One process holds the whole model in memory."""
EXAMPLES = (
    "python -m train.surgery from=runs/pretrain to=runs/student prune.layers=2 prune.ffn=128 prune.experts=4",
    "python -m train.surgery from=runs/pretrain to=runs/narrow prune.width=96 data=runs/smoke/pages/train/ratio-4 pages=128",
    "python -m train.surgery from=runs/pretrain to=runs/deeper grow.layers=6 new_layers=stack",
    "python -m train.surgery from=runs/dense to=runs/experts upcycle.experts=8 upcycle.experts_per_token=2",
    "python -m train.surgery from=runs/pretrain to=runs/factored factorize.attention=16 factorize.ffn=32",
)

if __name__ == "__main__":
    sys.exit(run(main, "surgery", SurgeryConfig, None, DESCRIPTION, EXAMPLES, check))
