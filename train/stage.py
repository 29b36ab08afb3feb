"""A stage from its configuration: the parts are built here, in the order they depend on each other, and the loop moves them.

Encoder pre-training, full pre-training and what comes later differ in the values of `conf/stage/*.yaml` only.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from megatron.core import parallel_state
from omegaconf import OmegaConf

from conf.errors import ConfigError
from data_pipeline.batch import BatchSpec, Collator, MicroBatch
from data_pipeline.data_config import SourceConfig
from data_pipeline.stream import Stream, remote_of
from data_pipeline.tokenizer import Tokenizer, load_tokenizer
from parallel.device import device
from parallel.engine import Engine, EngineOptions
from parallel.layers import Chunks
from parallel.topology import Topology, environment
from train.config import Config
from train.curriculum import Curriculum
from train.distill.attach import attach_helpers, collator_of, objective_of, teacher_of
from train.guard.guard import Guard
from train.guard.memory import at_step, naming_what_is_too_large
from train.launch.signals import StopFlag
from train.launch.watchdog import Watchdog
from train.layout import topology_of
from train.loop import Progress, Run, restore, state_of, train
from train.model.optical import OpticalModel, build
from train.monitor.monitor import Monitor
from train.monitor.reading import reader_of
from train.monitor.status import ending_told
from train.objective import NextToken
from train.observe.checksums import Checksums
from train.observe.history import begun
from train.observe.observer import Observer
from train.observe.of_model import of_model
from train.observe.watching import run_watchers
from train.optimizer import groups_of, optimizer_of
from train.parameters import counted, freeze, freeze_idle_heads
from train.probe import Probe
from train.resume import resume, told
from train.run_folder import write_text
from train.run_lock import alone_in
from train.saver import Saver
from train.start import begin, saves_base
from train.transform.attach import pack_base
from train.transform.prune import settle
from train.weight_decomposition.watch import watch_of


@dataclass(frozen=True)
class StageResult:
    """Where a stage ended. finished: its last step is done; otherwise a signal stopped it and the same command resumes it."""

    finished: bool
    step: int
    folder: Path
    checkpoints: Path


def run(config: Config, stop: StopFlag, overrides: Sequence[str] = ()) -> StageResult:
    """Runs or resumes the stage that `config` describes, in `run.directory`/`run.name`. Process groups must exist."""
    folder, (rank, world, _) = Path(config.run.directory) / config.run.name, environment()
    with alone_in(folder, rank), ending_told(folder, rank), naming_what_is_too_large(config, rank, lambda: "its start"):
        return _run(config, stop, overrides, folder, rank, topology_of(config.parallel, world))


def _run(config: Config, stop: StopFlag, overrides: Sequence[str], folder: Path, rank: int, topology: Topology) -> StageResult:
    checkpoints = folder / "checkpoints"
    tokenizer = load_tokenizer(config.data.tokenizer)
    model = build_model(config, tokenizer)
    base = begin(config, model)
    watch = watch_of(config, model)
    objective = NextToken(**asdict(config.stage.objective), strata=config.logger.details_every > 0)
    freeze(model, config.stage.frozen)
    freeze_idle_heads(model, objective)
    spec = batch_spec(config)
    teacher = teacher_of(config, spec)
    attach_helpers(config, model, teacher)
    sizes = counted(model)
    pack_base(config, model)
    groups = groups_of(model, config.optim)
    collator = collator_of(config, tokenizer, spec, teacher)
    curriculum = curriculum_of(config)

    def opened() -> Stream:
        return Stream.of(
            config.data, curriculum.shares(), collator, parallel_state.get_data_parallel_rank(), topology.data,
            config.seed, folder / "bad_samples.jsonl",
        )  # fmt: skip

    if config.prune.kind == "wanda":
        settle_masks(model, opened, -(-config.prune.batches // topology.data))
    engine = Engine(
        model, groups, optimizer_of(config.optim), objective_of(config, objective, teacher), topology, options_of(config)
    )
    with opened() as stream:
        held_out = paths(config.data.held_out)
        probe = Probe(model, held_out, Collator(tokenizer, spec), config.stage.evaluation_pages, config.data.micro_batch, remote_of(config.data))
        resumed = resume(engine, checkpoints if config.run.resume else None, config.resume)
        if rank == 0:
            write_facts(folder, config, overrides)
        history = begun(folder, resumed.step if resumed else 0, anew=not config.run.resume, rank=rank)
        monitor = Monitor(folder, config.logger, config.stage.steps, rank, start_step=resumed.step if resumed else 0,
                          name=config.run.name, anew=not config.run.resume)  # fmt: skip
        saver = Saver(engine, checkpoints, config.stage.keep_checkpoints, config.stage.save_in_background, monitor.note,
                      None if saves_base(config) else base, monitor.saved)  # fmt: skip
        guard = Guard(config, engine, folder, monitor.note, resumed.step if resumed else 0)
        progress = Progress()
        observers = [*observers_of(config, engine, folder, monitor.note),
                     *run_watchers(config, saver, stream, history, lambda: progress.seconds, folder)]  # fmt: skip
        reader = reader_of(model, tokenizer, spec, held_out, config.logger.samples, folder, monitor.note, config.engine.zero, remote_of(config.data))
        run = Run(config, engine, stream, curriculum, probe, monitor, stop, guard, progress, lambda: None, watch=watch, reader=reader,
                  observers=observers)  # fmt: skip
        run.save = lambda: saver.save(run.progress.step, state_of(run))
        if resumed:
            restore(run, resumed.extra)
            monitor.note(told(resumed, engine, config.stage.steps))
        finished = moved(run, saver, sizes)
    engine.close()
    return StageResult(finished, run.progress.step, folder, checkpoints)


def moved(run: Run, saver: Saver, sizes: tuple[int, int]) -> bool:
    """Trains until all is saved, and tells in status.json how it went, an error included. sizes: (parameters, of them
    training)."""
    monitor, rank = run.monitor, environment()[0]
    monitor.note(f"{sizes[0] / 1e6:.1f} M parameters, {sizes[1] / 1e6:.1f} M of them train, on {device_name()}")
    monitor.status("running", parameters=sizes[0], device=device_name())

    def lost(message: str) -> None:
        monitor.status("failed", error=message, user_error=False)

    def doing() -> str:
        return at_step(run.progress.step + 1, run.engine.at_work)

    try:
        watchdog = Watchdog(run.config.run.timeout, lambda: f"step {run.progress.step + 1}", rank, lost)
        run.beat = watchdog.beat
        with watchdog, run.stop.working(), naming_what_is_too_large(run.config, rank, doing):
            finished = train(run)
            saver.finish()
        monitor.ended(finished, run.stop)
        return finished
    except BaseException as error:
        monitor.failed(error)
        raise
    finally:
        for observer in run.observers:
            observer.close()
        monitor.close()


def build_model(config: Config, tokenizer: Tokenizer) -> OpticalModel | Chunks:
    """This rank's part of the model on its device, with fresh weights."""
    if tokenizer.vocab_size > config.model.decoder.vocab_size:
        raise ConfigError(
            f"data.tokenizer={config.data.tokenizer} has {tokenizer.vocab_size} tokens, the model only "
            f"{config.model.decoder.vocab_size}: set model.decoder.vocab_size={-(-tokenizer.vocab_size // 16) * 16}."
        )
    model = build(
        config.model,
        tokenizer.image,
        config.parallel,
        precision=config.engine.precision,
        recompute=config.engine.recompute,
        device=device(),
        seed=config.seed,
        init=config.init,
    )
    return model


def observers_of(config: Config, engine: Engine, folder: Path, note: Callable[[str], None]) -> list[Observer]:
    """What looks at each step from beside it. note: tells once what it cannot look at."""
    rank, every = environment()[0], config.logger.checksums_every
    checksums = [Checksums(engine, folder, every, writes=rank == 0)] if every else []
    return [*of_model(config.logger, engine, note), *checksums]


def settle_masks(model: torch.nn.Module, opened: Callable[[], Stream], count: int) -> None:
    """Wanda's masks, from the stage's first pages: so many steps' as hold `count` micro-batches of each data rank. A run that goes
    on takes its own masks from its checkpoint afterwards.
    """
    with opened() as stream:
        batches: list[MicroBatch] = []
        while len(batches) < count:
            batches += stream.next_step()
    settle(model, batches)


def options_of(config: Config) -> EngineOptions:
    """How the engine computes a step."""
    engine = config.engine
    return EngineOptions(engine.zero, engine.precision, engine.clip, engine.offload)


def curriculum_of(config: Config) -> Curriculum:
    """The curriculum over the training sources, at its first level."""
    settings = config.stage.curriculum
    weights = {name: source.weight for name, source in config.data.train.items()}
    return Curriculum(settings.levels, weights, settings.advance_at, settings.max_steps)


def batch_spec(config: Config) -> BatchSpec:
    """What a row and the views of this configuration look like."""
    asked = config.stage.objective.patch_glyphs > 0 or config.stage.objective.token_glyphs > 0
    return BatchSpec(
        tuple(config.data.modes),
        config.model.encoder.patch,
        config.data.max_length,
        glyphs=asked,
        texts=config.model.encoder.kind != "optical",
        row_multiple=math.lcm(8, config.parallel.tensor),
        every_size=config.engine.zero == 3,
        reserved=config.tune.reserved,
    )


def paths(sources: Mapping[str, SourceConfig]) -> dict[str, str]:
    """Name -> folder or address of the shard set."""
    return {name: source.path for name, source in sources.items()}


def write_facts(folder: Path, config: Config, overrides: Sequence[str]) -> None:
    """What was asked for, beside what comes of it: config.yaml (resolved) and overrides.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.structured(config)))
    write_text(folder / "overrides.txt", "".join(f"{override}\n" for override in overrides))


def device_name() -> str:
    """The kind of device, without the machine's name."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, threads: {torch.get_num_threads()}"
