"""The settings of `python -m train.generate`, and what is wrong with impossible ones. Loads nothing heavy."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING

from conf.errors import ConfigError
from train.find_run import locate
from train.generate.options import CACHES as CACHES
from train.generate.options import Decoding, NoRepeat

NO_REPEAT = {"image": (30, 90), "pdf": (20, 50), "eval": (40, 90)}  # (size, window) in the release's scripts


@dataclass
class GenerateConfig:
    """Which pages are read, by which model, how the text is chosen, and where it goes."""

    checkpoint: str = (
        MISSING  # a run folder (its newest checkpoint), one checkpoint folder, or a recipe's folder
    )
    image: list[str] = MISSING  # pictures, PDFs, folders of them, quoted patterns
    pages: str | None = None  # of PDFs and TIFFs: "1-3,7", "5-"; null = all
    dpi: int = 144  # at which pages of PDFs are rendered; 144 as in the release
    out: str | None = None  # folder that gets one markdown file a document; null = the text is printed
    restart: bool = False  # read again what `out` holds already
    json: bool = False  # print one JSON line a page instead of its text alone
    prompt: str | None = None  # what the model is asked; null = what the run's own held-out pages ask
    mode: str | None = None  # how a page is seen; null = the first mode that the model was trained with
    max_new_tokens: int = 8192  # of one page, at most; what the model was made for may be less
    temperature: float = 0.0  # 0 = always the likeliest token
    top_p: float = 1.0  # tokens are drawn from the likeliest ones that have this probability together
    seed: int = 0  # of what is drawn
    no_repeat: str = (
        "none"  # "none", the release's "image", "pdf" or "eval", "20" (n-grams of 20 tokens, anywhere), or "20/50" (in the last 50)
    )
    no_repeat_allowed: list[str] = field(default_factory=lambda: ["<td>", "</td>"])  # may repeat: empty cells
    cache: str = "auto"  # keys and values: "auto" (as the weights) | "bf16" | "int8"
    speculate: str = (
        "none"  # same text, faster: "none" | "lookup" (in what was read) | "draft" (a smaller model)
    )
    draft: str | None = None  # checkpoint of the smaller model; speculate=draft
    batch_size: int = 8  # pages read at once
    tensor: int = 1  # processes that share each matrix of the model
    timeout: float = 600.0  # seconds that a process waits for another, which may have hung or died


def check(config: GenerateConfig) -> None:
    """Refuses impossible values and missing files before anything is loaded."""
    for name, least in (("dpi", 1), ("batch_size", 1), ("tensor", 1), ("timeout", 1)):
        if not getattr(config, name) >= least:
            raise ConfigError(f"{name}={getattr(config, name)}: must be {least} or more")
    decoding_of(config, 1)
    _check_speculation(config)
    _check_output(config)
    _check_files(config)


def decoding_of(
    config: GenerateConfig, all_positions: int, allowed: frozenset[int] = frozenset()
) -> Decoding:
    """How text is chosen. all_positions: of the longest row, which no_repeat=SIZE looks through; allowed: the ids of
    no_repeat_allowed. Raises ConfigError for impossible values.
    """
    rule = no_repeat_of(config.no_repeat)
    return Decoding(
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        seed=config.seed,
        no_repeat=NoRepeat(rule[0], rule[1] or max(all_positions, rule[0]), allowed) if rule else None,
        cache=config.cache,
        speculate=config.speculate,
    )


def no_repeat_of(text: str) -> tuple[int, int] | None:
    """(size of the n-grams, how many of the last tokens are looked at; 0: all), or None for "none"."""
    if text == "none":
        return None
    if text in NO_REPEAT:
        return NO_REPEAT[text]
    match = re.fullmatch(r"(\d+)(?:/(\d+))?", text)
    size, window = (int(match[1]), int(match[2] or 0)) if match else (0, 0)
    if size < 2 or (window and window < size):
        presets = ", ".join(f"{name} ({'/'.join(map(str, pair))})" for name, pair in NO_REPEAT.items())
        raise ConfigError(
            f"no_repeat={text}: choose none, {presets}, or SIZE/WINDOW of your own, such as 20/50: no 20 tokens twice "
            "among the last 50 (SIZE 2 or more, WINDOW at least SIZE)"
        )
    return size, window


def _check_speculation(config: GenerateConfig) -> None:
    if (config.speculate == "draft") != (config.draft is not None):
        raise ConfigError(
            f"speculate={config.speculate} draft={config.draft}: a smaller model is named by both, "
            "speculate=draft draft=CHECKPOINT"
        )
    if config.speculate != "none" and config.temperature > 0:
        raise ConfigError(
            f"speculate={config.speculate} temperature={config.temperature}: guesses are checked against the likeliest "
            "token. Choose temperature=0, or speculate=none"
        )


def _check_output(config: GenerateConfig) -> None:
    # Not parallel.topology.environment: what is wrong with the variables is told when the processes meet.
    world = int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1)
    if world % config.tensor:
        raise ConfigError(
            f"tensor={config.tensor}: {world} process{'es were' * (world > 1) or ' was'} started, which cannot form groups "
            f"of {config.tensor}. Start a multiple: torchrun --nproc-per-node={config.tensor} -m train.generate …"
        )
    if config.out is None and world > config.tensor:
        raise ConfigError(
            f"{world // config.tensor} groups of processes would print their texts at once: give out=FOLDER"
        )
    if config.out is not None and config.json:
        raise ConfigError(
            "json=true out=…: the folder's journal.jsonl has these lines; leave one of both out"
        )
    if config.out is not None and Path(config.out).exists() and not Path(config.out).is_dir():
        raise ConfigError(f"out={config.out}: is a file; choose a folder")
    if config.out is None and config.restart:
        raise ConfigError("restart=true: nothing is kept without out=FOLDER; leave it out")


def _check_files(config: GenerateConfig) -> None:
    from train.generate.documents import chosen, find

    find(config.image)
    chosen(config.pages, 1)
    for name in ("checkpoint", "draft"):
        if getattr(config, name) is not None:
            locate(Path(getattr(config, name)), name)
    if config.mode is not None:
        from data_pipeline.errors import DataError
        from data_pipeline.resolution import mode_of

        try:
            mode_of(config.mode)
        except DataError as error:
            raise ConfigError(f"mode={config.mode}: {error}") from None
