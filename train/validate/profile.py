"""Steps that can be recorded, on ranks that exist."""

from collections.abc import Iterator

from train.config import Config

MOST = 50  # steps: a trace of more is too large to look at


def profile_faults(config: Config, world: int) -> Iterator[str]:
    """A sentence for each impossible value of the section `profile`."""
    steps, ranks, last = config.profile.steps, config.profile.ranks, config.stage.steps
    if not steps:
        return
    if len(steps) != 2:
        yield f"profile.steps={shown(steps)}: give the first and the last step, such as profile.steps=[10,12], or [] for none."
    elif not 1 <= steps[0] <= steps[1]:
        yield f"profile.steps={shown(steps)}: the first step is 1 or later, and the last not before it, such as profile.steps=[10,12]."
    elif steps[1] > last > 0:
        yield f"profile.steps={shown(steps)}: stage.steps={last} is less. Choose profile.steps=[{max(1, last - 2)},{last}]."
    elif steps[1] - steps[0] >= MOST:
        yield f"profile.steps={shown(steps)}: at most {MOST} steps in a trace. Choose profile.steps=[{steps[0]},{steps[0] + 2}]."
    if not ranks:
        yield "profile.ranks=[]: nobody would record. Choose profile.ranks=[0], or profile.steps=[]."
    for rank in ranks:
        if not 0 <= rank < world:
            yield f"profile.ranks={shown(ranks)}: there is no rank {rank} among {world}. Choose from 0 to {world - 1}."


def shown(values: list[int]) -> str:
    """As it is typed on a command line."""
    return f"[{','.join(map(str, values))}]"
