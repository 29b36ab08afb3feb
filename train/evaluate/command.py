"""An evaluation from its settings, into evaluation.json.

Nothing heavy is imported before the configuration is known to be sound.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.errors import ConfigError
from train.evaluate.config import EvaluateConfig
from train.launch.peers import ending_with_lost_peers
from train.run_folder import plain, write_json

if TYPE_CHECKING:
    from train.evaluate.suite import Evaluation
    from train.load import Trained


def main(config: EvaluateConfig) -> None:
    """Evaluates in process groups of its own."""
    from parallel.topology import Topology, environment, start, stop

    rank, world, _ = environment()
    try:
        with ending_with_lost_peers("python -m train.evaluate", rank, config.timeout):
            start(Topology.of_world(world), config.seed, timeout_seconds=config.timeout)
            evaluate_run(config)
    finally:
        stop()


def evaluate_run(config: EvaluateConfig) -> Path:
    """Loads the checkpoint and evaluates it; rank 0 writes evaluation.json, whose path is returned. Groups
    must exist.
    """
    from parallel.topology import environment
    from train.evaluate.suite import evaluate
    from train.load import load_trained

    first = environment()[0] == 0
    trained = load_trained(Path(config.checkpoint))
    result = evaluate(
        trained.model, trained.tokenizer, sources(trained, "held_out", config.data), sources(trained, "floor", config.data),
        trained.spec, config.pages, config.batch_size, config.seed, print_line if first else None,
    )  # fmt: skip
    folder = output_folder(trained.run_folder, config.out)
    if first:
        print_line(f"{write(result, trained, folder)} written after {result.seconds:.0f} s")
    return folder / "evaluation.json"


def sources(trained: "Trained", part: str, data: str | None) -> dict[str, Path]:
    """Shard sets of the run's data.held_out or data.floor by name, moved below `data` where that is given."""
    found = {name: Path(source.path) for name, source in getattr(trained.config.data, part).items()}
    if data is None:
        return found
    root = Path(trained.config.data.root)
    for name, path in found.items():
        if not path.is_relative_to(root):
            raise ConfigError(
                f"data={data}: data.{part}.{name}.path of the run ({path}) is not below its data.root ({root})"
            )
    return {name: Path(data) / path.relative_to(root) for name, path in found.items()}


def output_folder(run_folder: Path, out: str | None) -> Path:
    """Where the result belongs: `out`, else the recipe's folder (the report reads it there), else the run's
    own.
    """
    if out is not None:
        return Path(out)
    parent = run_folder.resolve().parent
    return run_folder.parent if (parent / "recipe.json").exists() else run_folder


def write(result: "Evaluation", trained: "Trained", folder: Path) -> Path:
    """evaluation.json in `folder` and the sampled pages in its folder `samples`; the JSON last, as it names
    them.
    """
    from PIL import Image

    (folder / "samples").mkdir(parents=True, exist_ok=True)
    samples: list[dict[str, Any]] = []
    for sample in result.samples:
        name = f"samples/{sample.source}-{sample.choice}.png"
        Image.fromarray(sample.page).save(folder / name)
        fields = {key: value for key, value in vars(sample).items() if key != "page"}
        samples.append(fields | {"page": name})
    content = {
        "format": 1,
        "run": trained.run_folder.resolve().name,
        "step": trained.step,
        "seconds": round(result.seconds, 1),
        "image_gain": result.image_gain,
        "curve": result.curve,
        "samples": samples,
        "sample_choice": result.sample_choice,
        "parameters": parameters(trained),
        "device": device_kind(),
    }
    write_json(folder / "evaluation.json", plain(content))
    return folder / "evaluation.json"


def parameters(trained: "Trained") -> dict[str, int]:
    """Numbers in the model by part; "total" leaves out the glyph heads, which only training uses."""
    counts: dict[str, int] = {}
    for name, value in trained.model.named_parameters():
        part = name.split(".")[0]
        counts[part] = counts.get(part, 0) + value.numel()
    return {"total": sum(count for part, count in counts.items() if part != "glyph_heads")} | counts


def device_kind() -> str:
    """The kind of device this process computes on: "NVIDIA H100 80GB HBM3", or "cpu"."""
    import torch

    from parallel.device import device

    return torch.cuda.get_device_name(device()) if device().type == "cuda" else "cpu"


def print_line(text: str) -> None:
    """One line, at once."""
    print(text, flush=True)
