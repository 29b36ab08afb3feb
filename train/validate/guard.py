"""Guards that cannot work."""

from collections.abc import Iterator

from conf import rules
from train.config import Config


def guard_faults(config: Config) -> Iterator[str]:
    """A sentence for every impossible value of `config.guard`, and for what does not go together with `config.optim`."""
    guard = config.guard
    yield from rules.at_least("guard.max_skipped", guard.max_skipped, 0, "0: a run never ends over them")
    yield from rules.at_least("guard.spike_sigmas", guard.spike_sigmas, 0, "0: nothing is a spike")
    yield from rules.at_least("guard.window", guard.window, 4, "steps to compare with")
    if guard.skip_spikes and guard.spike_sigmas == 0:
        yield "guard.skip_spikes=true guard.spike_sigmas=0: nothing is a spike. Choose guard.spike_sigmas=6, or guard=default."
    if guard.skip_spikes and config.optim.name == "lomo":
        yield (
            "guard.skip_spikes=true optim.name=lomo: it steps in the backward, before the norm of the gradient is known. Choose "
            "guard=default, or another optim=."
        )
