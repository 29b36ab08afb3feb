"""Well-typed but impossible settings, refused before torch is imported; each complaint names the override that mends it.

All faults are told at once, so that nobody mends a configuration one start at a time.
"""

import difflib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from conf.errors import ConfigError
from parallel.errors import ParallelError
from parallel.options import EngineOptions
from parallel.options import check as check_engine
from parallel.topology import Topology
from train.config import Config, DataConfig, DecoderConfig, EncoderConfig, OptimConfig, StageConfig

PARTS = ("encoder.window", "encoder.compressor", "encoder.global", "encoder.projector", "encoder.newline", "encoder.separator", "decoder", "glyph_heads")
SHORTEST_TEXT = 16  # tokens of text that must fit beside the vision tokens for training to mean anything
BUILD = "python -m data_pipeline.build corpus=smoke out={root}"


def validate(config: Config, world: int, files: bool = True) -> None:
    """Raises ConfigError with every impossible value of `config` for `world` processes.

    files: also look for the shard sets, the tokenizer and the checkpoint it names (a recipe makes them only later).
    """
    checks: list[Callable[[Config], Iterator[str]]] = [_encoder, _decoder, _model, _data, _batches, _sources, _optim, _stage, _curriculum, _run]
    faults = [fault for check in checks for fault in check(config)]
    faults += _layout(config, world)
    if files and not faults:
        faults += _missing_files(config)
    if faults:
        raise ConfigError(faults[0] if len(faults) == 1 else "\n  ".join([f"{len(faults)} settings cannot work:", *faults]))


def _encoder(config: Config) -> Iterator[str]:
    encoder: EncoderConfig = config.model.encoder
    yield from _positive("model.encoder", encoder, "image_size patch window_width window_depth window_heads window_size window_mlp neck_width "
                         "global_depth global_heads global_mlp")
    if len(encoder.compressor_widths) != 2 or min(encoder.compressor_widths) < 1:
        yield f"model.encoder.compressor_widths={encoder.compressor_widths}: give two widths, one for each convolution."
        return
    yield from _divides("model.encoder.window_heads", encoder.window_heads, "model.encoder.window_width", encoder.window_width)
    yield from _divides("model.encoder.global_heads", encoder.global_heads, "model.encoder.compressor_widths[1]", encoder.compressor_widths[1])
    yield from _image_size("model.encoder.image_size", encoder.image_size, encoder.patch)
    outside = [layer for layer in encoder.global_layers if not 0 <= layer < encoder.window_depth]
    if outside:
        yield f"model.encoder.global_layers: {outside} is outside the {encoder.window_depth} layers, which are counted from 0."


def _decoder(config: Config) -> Iterator[str]:
    decoder: DecoderConfig = config.model.decoder
    yield from _positive("model.decoder", decoder, "layers width heads ffn vocab_size max_length rope_theta norm_eps")
    yield from _divides("model.decoder.heads", decoder.heads, "model.decoder.width", decoder.width)
    if decoder.heads > 0 and decoder.width % decoder.heads == 0 and decoder.width // decoder.heads % 2:
        yield f"model.decoder.heads={decoder.heads}: a head of {decoder.width // decoder.heads} features is odd, rotary positions need pairs."
    if not 0 <= decoder.dense_layers <= decoder.layers:
        yield f"model.decoder.dense_layers={decoder.dense_layers}: choose 0 to model.decoder.layers={decoder.layers}."
    if decoder.dense_layers < decoder.layers:
        yield from _positive("model.decoder", decoder, "experts experts_per_token expert_ffn")
        if decoder.experts_per_token > decoder.experts:
            yield (f"model.decoder.experts_per_token={decoder.experts_per_token}: there are model.decoder.experts={decoder.experts}; "
                   f"choose model.decoder.experts_per_token={decoder.experts} or less.")
    yield from _at_least("model.decoder.shared_experts", decoder.shared_experts, 0)
    yield from _at_least("model.decoder.aux_loss", decoder.aux_loss, 0)


def _model(config: Config) -> Iterator[str]:
    objective = config.stage.objective
    yield from _at_least("stage.objective.patch_glyphs", objective.patch_glyphs, 0)
    yield from _at_least("stage.objective.token_glyphs", objective.token_glyphs, 0)
    if (objective.patch_glyphs > 0 or objective.token_glyphs > 0) and not config.model.glyph_heads:
        yield ("model.glyph_heads=false: stage.objective weighs the glyph map. Choose model.glyph_heads=true, or "
               "stage.objective.patch_glyphs=0 stage.objective.token_glyphs=0.")
    if not 1 <= config.model.glyph_classes <= 256:
        yield f"model.glyph_classes={config.model.glyph_classes}: choose 1 to 256, classes are stored in a byte."


def _data(config: Config) -> Iterator[str]:
    data: DataConfig = config.data
    yield from _fraction("data.max_bad_fraction", data.max_bad_fraction)
    yield from _positive("data", data, "max_length shuffle_window")
    sizes = list(_image_size("data.image_size", data.image_size, config.model.encoder.patch))
    yield from sizes
    if sizes or config.model.encoder.patch < 1:
        return
    from data_pipeline.resolution import sequence_length  # numpy and Pillow, not needed for the faults above

    shortest = sequence_length(data.image_size, config.model.encoder.patch) + 2 + SHORTEST_TEXT
    if data.max_length < shortest:
        yield f"data.max_length={data.max_length}: a page of {data.image_size} pixels takes {shortest - SHORTEST_TEXT} tokens without any text. " \
              f"Choose data.max_length={shortest} or more, or a smaller data.image_size."
    if data.max_length > config.model.decoder.max_length:
        yield f"data.max_length={data.max_length}: the decoder holds {config.model.decoder.max_length} positions. " \
              f"Choose data.max_length={config.model.decoder.max_length}, or a larger model.decoder.max_length."


def _batches(config: Config) -> Iterator[str]:
    yield from _positive("data", config.data, "global_batch micro_batch")


def _sources(config: Config) -> Iterator[str]:
    data = config.data
    if not data.train:
        yield "data.train: no source to learn from. Add one: +data.train.NAME.path=FOLDER"
    for group in ("train", "held_out", "floor"):
        for name, source in getattr(data, group).items():
            yield from _at_least(f"data.{group}.{name}.weight", source.weight, 1)
    for name in sorted(set(data.floor) - set(data.held_out)):
        yield f"data.floor.{name}: floors bear the names of data.held_out ({', '.join(data.held_out) or 'empty'}). Remove it: ~data.floor.{name}"


def _optim(config: Config) -> Iterator[str]:
    optim: OptimConfig = config.optim
    yield from _one_of("optim.name", optim.name, ["adamw"])
    yield from _one_of("optim.schedule", optim.schedule, ["cosine", "step", "constant"])
    yield from _positive("optim", optim, "lr eps")
    if len(optim.betas) != 2 or not all(0 <= beta < 1 for beta in optim.betas):
        yield f"optim.betas={optim.betas}: give two numbers from 0 up to, not including, 1: optim.betas=[0.9,0.95]"
    yield from _at_least("optim.weight_decay", optim.weight_decay, 0)
    yield from _at_least("optim.warmup_steps", optim.warmup_steps, 0)
    yield from _fraction("optim.final_fraction", optim.final_fraction)
    yield from _fraction("optim.step_factor", optim.step_factor)
    if optim.step_milestones != sorted(optim.step_milestones) or not all(0 <= place <= 1 for place in optim.step_milestones):
        yield f"optim.step_milestones={optim.step_milestones}: give rising fractions of the run: optim.step_milestones=[0.6,0.9]"


def _stage(config: Config) -> Iterator[str]:
    stage: StageConfig = config.stage
    yield from _positive("stage", stage, "steps checkpoint_every evaluate_every keep_checkpoints")
    yield from _at_least("stage.evaluation_pages", stage.evaluation_pages, 2, "pages are compared with shuffled ones")
    if config.optim.warmup_steps > stage.steps > 0:
        yield f"optim.warmup_steps={config.optim.warmup_steps}: the run has stage.steps={stage.steps}. Choose optim.warmup_steps={stage.steps // 10}."
    for prefix in stage.frozen:
        if not any(part == prefix or part.startswith(prefix + ".") or prefix.startswith(part + ".") for part in PARTS):
            guess = difflib.get_close_matches(prefix, PARTS, 1)
            yield f"stage.frozen: the model has no part {prefix}. {f'Did you mean {guess[0]}? ' if guess else ''}Parts: {', '.join(PARTS)}."
    if {"encoder", "decoder"} <= set(stage.frozen):
        yield f"stage.frozen={stage.frozen}: nothing is left to train."


def _curriculum(config: Config) -> Iterator[str]:
    curriculum, data = config.stage.curriculum, config.data
    yield from _fraction("stage.curriculum.advance_at", curriculum.advance_at)
    yield from _at_least("stage.curriculum.max_steps", curriculum.max_steps, 0)
    yield from _positive("stage.curriculum", curriculum, "check_every")
    for number, level in enumerate(curriculum.levels):
        if not level:
            yield f"stage.curriculum.levels: level {number} is empty. Name a source of data.train in it, or leave the level out."
        for name in level:
            if name not in data.train:
                guess = difflib.get_close_matches(name, list(data.train), 1)
                meant = f"Did you mean {guess[0]}? " if guess else ""
                yield f"stage.curriculum.levels: data.train has no source {name}. {meant}It has: {', '.join(data.train) or 'none'}."
            elif number + 1 < len(curriculum.levels) and name not in data.held_out and curriculum.max_steps == 0:
                yield (f"stage.curriculum.levels: {name} has no pages in data.held_out, so its accuracy cannot end the level. "
                       "Choose stage.curriculum.max_steps=500, or add held-out pages.")


def _run(config: Config) -> Iterator[str]:
    yield from _one_of("run.device", config.run.device, ["auto", "cpu", "cuda"])
    yield from _one_of("logger.wandb", config.logger.wandb, ["offline", "online", "disabled"])
    yield from _positive("logger", config.logger, "console_every")
    if not 0 <= config.seed < 2**31:
        yield f"seed={config.seed}: choose 0 to {2**31 - 1}."
    if not config.run.name.strip() or config.run.name in (".", ".."):
        yield f"run.name={config.run.name!r}: give the run a name: run.name=first_try"


def _layout(config: Config, world: int) -> Iterator[str]:
    """What the parallel sizes ask of the world, the batch and the model."""
    sizes, decoder = config.parallel, config.model.decoder
    try:
        topology = Topology.of_world(world, sizes.tensor, sizes.pipeline, sizes.expert)
        check_engine(topology, EngineOptions(config.engine.zero_stage, config.engine.precision, config.engine.clip))
    except ParallelError as error:
        yield str(error)
        return
    micro, batch = config.data.micro_batch, config.data.global_batch
    if micro > 0 and batch > 0 and batch % (micro * topology.data):
        unit = micro * topology.data
        fitting = next((size for size in range(micro, 0, -1) if batch % (size * topology.data) == 0), None)
        other = f", or data.micro_batch={fitting}" if fitting else ""
        yield (f"data.global_batch={batch}: not a multiple of data.micro_batch={micro} x {topology.data} data-parallel processes. "
               f"Choose data.global_batch={max(unit, round(batch / unit) * unit)}{other}.")
    yield from _divides("parallel.tensor", sizes.tensor, "model.decoder.heads", decoder.heads)
    yield from _divides("parallel.expert", sizes.expert, "model.decoder.experts", decoder.experts)
    if decoder.layers < sizes.pipeline:
        yield f"parallel.pipeline={sizes.pipeline}: the decoder has {decoder.layers} layers. Choose parallel.pipeline={decoder.layers} or less."


def _missing_files(config: Config) -> Iterator[str]:
    data, stage = config.data, config.stage
    absent = [f"data.{group}.{name}.path={source.path}" for group in ("train", "held_out", "floor")
              for name, source in getattr(data, group).items() if not (Path(source.path) / "manifest.json").is_file()]
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        yield f"{absent[0]}{more}: no shards there (no manifest.json). Build them: {BUILD.format(root=data.root)}, or choose data.root=FOLDER."
    if data.tokenizer != "bytes" and not Path(data.tokenizer).is_file():
        yield f"data.tokenizer={data.tokenizer}: there is no such file. Give a tokenizer.json, or data.tokenizer=bytes."
    if stage.start_from is not None and not Path(stage.start_from).is_dir():
        yield f"stage.start_from={stage.start_from}: there is no such folder. Give the checkpoints of a run: stage.start_from=runs/NAME/checkpoints"


def _positive(section: str, values: object, names: str) -> Iterator[str]:
    for name in names.split():
        value = getattr(values, name)
        if not value > 0:
            yield f"{section}.{name}={value}: must be above 0."


def _at_least(name: str, value: float, least: float, why: str = "") -> Iterator[str]:
    if not value >= least:
        yield f"{name}={value}: must be {least} or more{f' ({why})' if why else ''}."


def _fraction(name: str, value: float) -> Iterator[str]:
    if not 0 <= value <= 1:
        yield f"{name}={value}: must be a fraction, from 0 to 1."


def _divides(name: str, part: int, whole_name: str, whole: int) -> Iterator[str]:
    """`part` must divide `whole`; the complaint names the nearest part that does."""
    if part > 0 and whole > 0 and whole % part:
        divisors = [number for number in range(1, whole + 1) if whole % number == 0]
        nearest = min(divisors, key=lambda number: (abs(number - part), number))
        yield f"{name}={part}: does not divide {whole_name}={whole}. The nearest that does: {name}={nearest}."


def _image_size(name: str, size: int, patch: int) -> Iterator[str]:
    """A vision token covers 4 x 4 patches, and a page is whole vision tokens."""
    unit = 4 * patch
    if size < 1 or (unit > 0 and size % unit):
        yield f"{name}={size}: not a multiple of {unit} (4 x model.encoder.patch). The nearest: {name}={max(unit, round(size / unit) * unit)}."


def _one_of(name: str, value: str, known: Sequence[str]) -> Iterator[str]:
    if value not in known:
        guess = difflib.get_close_matches(value, known, 1)
        yield f"{name}={value}: choose one of {', '.join(known)}.{f' Did you mean {name}={guess[0]}?' if guess else ''}"
