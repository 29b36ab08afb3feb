"""Guards that cannot work are refused when the configuration loads."""

import pytest

from conf.compose import Composer
from conf.errors import ConfigError
from train.config import Config
from train.validate import validate

IMPOSSIBLE = {
    "guard.max_skipped=-1": "guard.max_skipped=-1: must be 0 or more (0: a run never ends over them)",
    "guard.spike_sigmas=-1": "guard.spike_sigmas=-1.0: must be 0 or more",
    "guard.window=2": "guard.window=2: must be 4 or more",
    "guard=skip_spikes guard.spike_sigmas=0": "Choose guard.spike_sigmas=6, or guard=default",
    "guard=skip_spikes optim=lomo": "it steps in the backward, before the norm of the gradient is known. Choose guard=default",
}


@pytest.mark.parametrize("overrides", IMPOSSIBLE)
def test_it_is_refused_with_what_would_do(overrides):
    config = Composer("config", Config).build(["stage=encoder", *overrides.split()])
    with pytest.raises(ConfigError) as refused:
        validate(config, 1, files=False)
    assert IMPOSSIBLE[overrides] in str(refused.value)
