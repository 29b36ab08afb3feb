"""Where a run goes on: from its own newest checkpoint, or from another run's that `resume=` names, in any layout."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from parallel import checkpoint
from parallel.engine import Engine
from parallel.errors import CheckpointError
from train.layout import in_words
from train.validate.files import checkpoints_in, step_in_name


@dataclass(frozen=True)
class Found:
    """A checkpoint that the engine has taken: its folder, its step, and what was saved beside the tensors."""

    folder: Path
    step: int
    extra: dict[str, Any]


def resume(engine: Engine, own: Path | None, other: str | None) -> Found | None:
    """The engine takes everything from the newest valid checkpoint of both places; None where there is none.

    own: the run's checkpoints, None to leave them alone. other: a run, its checkpoints, or one of them. The run's own
    wins where it is as late. All ranks call it. Raises CheckpointError for a place whose checkpoints are all damaged.
    """
    places = [place for place in (own, Path(other) if other else None) if place is not None]
    found: Found | None = None
    for newest, place in sorted(_newest_steps(places), key=lambda entry: -entry[0]):
        if found is not None and found.step >= newest:
            break  # the rest is older
        loaded = _load(engine, place)
        if found is not None and (loaded is None or loaded.step <= found.step):
            _load(engine, found.folder)  # its newest was damaged, and what came before it is older
        else:
            found = loaded
    return found


def told(found: Found, engine: Engine, steps: int) -> str:
    """One line: what was resumed, from which layout, and what is left to do."""
    now = asdict(engine.topology)
    before = checkpoint.facts(found.folder).get("topology", now)
    layouts = "" if before == now else f", saved on {in_words(before)}; it goes on on {in_words(now)}"
    text = f"resumed after step {found.step} of {found.folder}{layouts}"
    if found.step < steps:
        return text
    return (
        f"{text}. That is its last step (stage.steps={steps}): nothing is left to do. Choose a larger stage.steps= to go on, "
        f"an earlier checkpoint by resume= and another run.name= to repeat the end, or run.resume=false to begin anew."
    )


def _newest_steps(places: Sequence[Path]) -> list[tuple[int, Path]]:
    """(newest step by name, place) of those that hold checkpoints, as rank 0 sees them: ranks must not disagree."""
    box = [[(step_in_name(folders[0]), place) for place in places if (folders := checkpoints_in(place))]]
    dist.broadcast_object_list(box, 0)
    return box[0]


def _load(engine: Engine, place: Path) -> Found | None:
    loaded = engine.load(place)
    if loaded is None:
        return None
    step, extra = loaded
    folder = next((folder for folder in checkpoints_in(place) if step_in_name(folder) == step), None)
    if folder is None:
        raise CheckpointError(f"{place}: the checkpoint of step {step} has vanished.")
    return Found(folder, step, extra)
