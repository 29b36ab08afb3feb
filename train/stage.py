"""A stage from its configuration: its parts, what watches them, and the loop that moves them.

Encoder pre-training, full pre-training and what comes later differ in the values of `conf/stage/*.yaml` only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from megatron.core import parallel_state
from omegaconf import OmegaConf

from data_pipeline.batch import Collator
from data_pipeline.data_config import SourceConfig
from data_pipeline.stream import Stream, remote_of
from parallel.topology import Topology, environment
from train.config import Config
from train.guard.guard import Guard
from train.guard.memory import at_step, naming_what_is_too_large
from train.launch.signals import StopFlag
from train.launch.watchdog import Watchdog
from train.layout import topology_of
from train.loop import Progress, Run, restore, state_of, train
from train.monitor.monitor import Monitor
from train.monitor.reading import reader_of
from train.monitor.status import ending_told
from train.observe.history import begun
from train.observe.watching import observers_of
from train.parts import Parts, engine_of, parts_of
from train.probe import Probe
from train.resume import resume, told
from train.run_folder import write_text
from train.run_lock import alone_in
from train.saver import Saver
from train.start import saves_base


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
    checkpoints, parts = folder / "checkpoints", parts_of(config)

    def opened() -> Stream:
        return Stream.of(
            config.data, parts.curriculum.shares(), parts.collator, parallel_state.get_data_parallel_rank(), topology.data,
            config.seed, folder / "bad_samples.jsonl",
        )  # fmt: skip

    engine = engine_of(config, parts, topology, opened)
    with opened() as stream:
        probe = probe_of(config, parts)
        resumed = resume(engine, checkpoints if config.run.resume else None, config.resume)
        start_step, anew, progress = resumed.step if resumed else 0, not config.run.resume, Progress()
        if rank == 0:
            write_facts(folder, config, overrides)
        history = begun(folder, start_step, anew=anew, rank=rank)
        monitor = Monitor(folder, config.logger, config.stage.steps, rank, start_step=start_step, name=config.run.name, anew=anew)
        base = None if saves_base(config) else parts.base
        saver = Saver(engine, checkpoints, config.stage.keep_checkpoints, config.stage.save_in_background, monitor.note, base, monitor.saved)
        moving = Run(
            config, engine, stream, parts.curriculum, probe, monitor, stop,
            guard=Guard(config, engine, folder, monitor.note, start_step),
            progress=progress,
            save=lambda: saver.save(progress.step, state_of(moving)),
            watch=parts.watch,
            reader=reader_of(parts.model, parts.tokenizer, parts.spec, paths(config.data.held_out), config.logger.samples, folder,
                             monitor.note, config.engine.zero, remote_of(config.data)),
            observers=observers_of(config, saver, stream, history, lambda: progress.seconds, folder),
        )  # fmt: skip
        if resumed:
            restore(moving, resumed.extra)
            monitor.note(told(resumed, engine, config.stage.steps))
        finished = moved(moving, saver, parts.sizes)
    engine.close()
    return StageResult(finished, progress.step, folder, checkpoints)


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


def probe_of(config: Config, parts: Parts) -> Probe:
    """The look at held-out pages, in rows without what only training adds."""
    return Probe(parts.model, paths(config.data.held_out), Collator(parts.tokenizer, parts.spec), config.stage.evaluation_pages,
                 config.data.micro_batch, remote_of(config.data))  # fmt: skip


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
