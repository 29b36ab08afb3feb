"""How experts are used, layer by layer: over all tokens of the global batch, those that the routers' balance loss counts."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist

from parallel.device import device
from parallel.layers import Router
from parallel.layers.tally import BALANCE, ENTROPY, FORWARDS, TOKENS, empty_tally
from train.observe.observer import Look

WINDOW = 5  # looks at which a dead expert got no token


class Experts:
    """Looks at every `every`-th step; in the others routers do nothing more than ever."""

    def __init__(self, module: torch.nn.Module, every: int) -> None:
        """module: this rank's part of the model, which an engine trains."""
        config: Any = module.config
        self._every = every
        self._layers, self._experts = config.num_layers, config.num_moe_experts or 0
        self._is_balanced = bool(config.moe_aux_loss_coeff)
        self._routers = [part for part in module.modules() if isinstance(part, Router)]
        self._used: deque[torch.Tensor] = deque(maxlen=WINDOW)

    def before(self, step: int) -> None:
        """The routers of a step that is looked at begin to count."""
        if self._experts and step % self._every == 0:
            for router in self._routers:
                router.tally = empty_tally(self._experts, device())

    def after(self, look: Look) -> Mapping[str, Any]:
        """expert_load, expert_entropy and expert_dead of each layer by its number in the model, as in the names of its weights;
        balance_loss over all of them."""
        if not self._experts or look.step % self._every:
            return {}
        tallies = torch.zeros(self._layers, self._experts + 4, dtype=torch.float64, device=device())
        for router in self._routers:
            if router.tally is not None:
                tallies[router.layer_number - 1] = router.tally
        self.close()
        dist.all_reduce(tallies)  # other stages have other layers, all other ranks other tokens
        return self._told(tallies.cpu())

    def close(self) -> None:
        """Nothing is counted any more."""
        for router in self._routers:
            router.tally = None

    def _told(self, tallies: torch.Tensor) -> dict[str, Any]:
        chosen, seen = tallies[:, :-4], tallies[:, TOKENS] > 0
        self._used.append(chosen > 0)
        dead = (~torch.stack(list(self._used)).any(0)).sum(1)
        loads, entropies = chosen.amax(1) / chosen.mean(1), tallies[:, ENTROPY] / tallies[:, TOKENS]
        values: dict[str, Any] = {}
        for layer in seen.nonzero().flatten().tolist():
            values[f"expert_load/{layer}"] = float(loads[layer])
            values[f"expert_entropy/{layer}"] = float(entropies[layer])
            if len(self._used) == WINDOW:
                values[f"expert_dead/{layer}"] = int(dead[layer])
        if self._is_balanced and seen.any():
            values["balance_loss"] = float((tallies[seen, BALANCE] / tallies[seen, FORWARDS]).mean())
        return values
