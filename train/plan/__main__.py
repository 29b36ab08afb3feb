"""`python -m train.plan model=… parallel=… world_size=… device=…`: what a layout holds, does and sends, without starting it.

Nothing heavy is imported before the configuration is known to be sound; no GPU is used, even where there is one.
"""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

from conf.command import run
from train.plan.config import PlanConfig, check

DESCRIPTION = """Plans a layout before anything is started: what each pipeline rank holds, its memory, FLOPs, messages and waiting time,
and an estimate of the step's time. It builds and runs the real model on one CPU, without values and with process groups that send
nothing, for worlds of any size. With --search it proposes the fastest layouts that fit, over tensor, pipeline, encoder_stages,
decoder_layers, virtual, expert, zero, recompute and micro_batch. A plan takes every option of python -m train; its own defaults are
bf16 and 640 pages a step, one a micro-batch."""
EXAMPLES = (
    "python -m train.plan model=deepseek_ocr_3b parallel=paper world_size=160 device=a100_40g",
    "python -m train.plan model=deepseek_ocr_3b world_size=8 device=h100_80g data.global_batch=64 --search",
    "python -m train.plan model=deepseek_ocr_3b parallel=tp2 world_size=16 engine.recompute=full out=plan.json",
    "python -m train.plan model=small world_size=1 device=h100_80g device.memory=24 data.global_batch=16 data.micro_batch=16",
)


def main(config: PlanConfig) -> int:
    """Prints the plan, or the search's proposals; returns 1 where nothing fits."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch is imported: everything is planned on the CPU
    os.environ.update(DS_ACCELERATOR="cpu", TORCHDYNAMO_DISABLE="1")
    # "Apex is not installed", six times, and names in torch that megatron-core will have to change
    warnings.filterwarnings("ignore", category=UserWarning, module=r"megatron\.")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    from train.plan.command import plan_layout, search_layouts

    fits, content = search_layouts(config) if config.search else plan_layout(config)
    if config.out:
        write(Path(config.out), content)
    return 0 if fits else 1


def write(path: Path, content: dict[str, Any]) -> None:
    """The plan as JSON."""
    from train.run_folder import write_json

    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)


def arguments(typed: list[str]) -> list[str]:
    """The command line with `--search` written as the option it stands for."""
    return ["search=true" if argument == "--search" else argument for argument in typed]


if __name__ == "__main__":
    sys.exit(run(main, "plan", PlanConfig, arguments(sys.argv[1:]), DESCRIPTION, EXAMPLES, check))
