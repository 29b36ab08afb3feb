"""What each stage did: its model on the same held-out pages, its size as stored, its speed in training."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch.distributed as dist

from train.config import Config, ModelConfig
from train.evaluate.command import evaluate_run
from train.evaluate.config import EvaluateConfig
from train.find_run import read_config
from train.recipe.step import Step
from train.run_folder import read_json, read_rows, write_json
from train.targets import chosen

FP32, SCALE = 4, 4  # bytes of a weight, and of a scale


def compare_stages(step: Step, made: Sequence[Step]) -> None:
    """Evaluates the model after each of `made` and writes `step.output`; all ranks call it. What was evaluated before, by an
    interrupted call, is not read again.
    """
    rows = []
    for other in made:
        if other.name == "export":
            rows.append({"name": other.name, "megabytes": _on_disk(other.output)})
            continue
        run, folder = other.output.parent, step.output.parent / other.name
        if not (folder / "metrics.json").exists():
            evaluate_run(replace(step.config, checkpoint=str(run), out=str(folder)))
        dist.barrier()  # the first process writes
        rows.append(_row(other.name, run, folder, step.config))
    if dist.get_rank() == 0:
        write_json(step.output, {"stages": rows})
    dist.barrier()


def _row(name: str, run: Path, folder: Path, config: EvaluateConfig) -> dict[str, Any]:
    """Figures of one stage: precision and its interval by source, image gain, parameters, megabytes, seconds a step."""
    found, settings = read_json(folder / "metrics.json") or {}, read_config(run / "config.yaml")
    seconds = [row["seconds"] for row in read_rows(run / "metrics.jsonl") if row.get("seconds")]
    parameters = found.get("parameters", {})
    return {
        "name": name,
        "sources": [
            {
                key: row.get(key)
                for key in (
                    "source",
                    "bytes_per_vision_token",
                    "precision",
                    "precision_interval",
                    "image_gain",
                )
            }
            for row in found.get("curve", [])
        ],
        "parameters": parameters.get("total"),
        "megabytes": stored_bytes(settings, parameters.get("total", 0)) / 1e6,
        "step_seconds": median(seconds[1:]) if len(seconds) > 1 else None,
        "steps": len(seconds),
        "pages": config.pages,
    }


def stored_bytes(config: Config, parameters: int) -> int:
    """What a model takes: fp32, but for the matrices that are stored as integers with their scales."""
    bits, group = config.quantize.bits, config.quantize.group
    if not bits:
        return FP32 * parameters
    saved = 0
    for target in chosen(config.model, config.quantize.targets, "quantize.targets"):
        numbers = target.outputs * target.inputs * _copies(config.model, target.kind)
        scales = numbers // (group or target.inputs)
        saved += FP32 * numbers - numbers * bits // 8 - SCALE * scales
    return FP32 * parameters - saved


def _copies(model: ModelConfig, kind: str) -> int:
    return model.decoder.experts if kind == "experts" else 1


def _on_disk(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6
