"""`python -m train.adapt.export checkpoint=… to=…`: an adapter for peft, or with merge=true a run without factors."""

import sys

from conf.command import run
from train.adapt.export.command import main
from train.adapt.export.config import ExportConfig, check

DESCRIPTION = """Writes what LoRA or DoRA fine-tuning learned. As an adapter that peft's PeftModel.from_pretrained loads onto the released
model (or onto transformers' own version of it), or with merge=true as a run whose weights have the factors worked in: that is for
everything that peft cannot express, and every other command takes it."""
EXAMPLES = (
    "python -m train.adapt.export checkpoint=runs/dora to=adapter                       # for the released model's own code",
    "python -m train.adapt.export checkpoint=runs/dora to=adapter library=transformers",
    "python -m train.adapt.export checkpoint=runs/dora to=runs/merged merge=true",
    "python -m train.convert from=runs/merged to=released                               # and on to safetensors",
)

if __name__ == "__main__":
    sys.exit(run(main, "export", ExportConfig, None, DESCRIPTION, EXAMPLES, check))
