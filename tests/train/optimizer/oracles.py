"""The same rules by other people's optimizers, on whole parameters of one process, to compare the engine with."""

from collections.abc import Callable
from typing import Any

import bitsandbytes
import galore_torch
import schedulefree
import tiny_decoder as tiny
import torch

from train.config import OptimConfig
from train.optimizer.groups import is_hidden_matrix

# Rates at which the tiny model moves and does not diverge; rank and refreshing so that 6 steps see both.
SETTINGS = {
    "adamw": OptimConfig(name="adamw", lr=2e-3, eps=1e-4),
    "lion": OptimConfig(name="lion", lr=3e-4),
    "muon": OptimConfig(name="muon", lr=2e-3, eps=1e-4),
    "adafactor": OptimConfig(name="adafactor", lr=1e-2, update_clip=1.0),
    "galore": OptimConfig(name="galore", lr=2e-3, eps=1e-4, rank=4, refresh_every=2, scale=0.5),
    "schedule_free": OptimConfig(name="schedule_free", lr=2e-3, betas=[0.9, 0.95], eps=1e-4),
    "adamw_8bit": OptimConfig(name="adamw_8bit", lr=2e-3, eps=1e-4),
    "lion_8bit": OptimConfig(name="lion_8bit", lr=3e-4),
    "lomo": OptimConfig(name="lomo", lr=3e-2),
}
DECAY = 0.1


def rate(config: OptimConfig, step: int) -> float:
    """Another one in every step."""
    return config.lr * (1 - 0.1 * step)


class Units:
    """The parameters as an optimizer of whole tensors takes them: each expert of a stack is one by itself."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        self.parts: dict[str, list[torch.nn.Parameter]] = {}
        for name, param in module.named_parameters():
            rows = param.detach() if is_stack(name, param) else param.detach()[None]
            self.parts[name] = [torch.nn.Parameter(row.clone()) for row in rows]

    def named(self, chosen: Callable[[str, torch.nn.Parameter], bool]) -> list[torch.nn.Parameter]:
        """Those of the parameters that `chosen` takes."""
        whole = dict(self.module.named_parameters())
        return [part for name, parts in self.parts.items() if chosen(name, whole[name]) for part in parts]

    def take_gradients(self) -> None:
        """From the module."""
        for name, param in self.module.named_parameters():
            rows = param.grad if is_stack(name, param) else param.grad[None]
            for part, row in zip(self.parts[name], rows):
                part.grad = row.clone()

    def give_weights(self) -> None:
        """To the module."""
        with torch.no_grad():
            for name, param in self.module.named_parameters():
                rows = torch.stack([part.detach() for part in self.parts[name]])
                param.copy_(rows if is_stack(name, param) else rows[0])


class Flats:
    """The parameters as bitsandbytes gets them from ZeRO: laid end to end, group by group, cut between `world` ranks."""

    def __init__(self, module: torch.nn.Module, world: int) -> None:
        params = list(module.parameters())
        self.members = [[p for p in params if p.ndim > 1], [p for p in params if p.ndim <= 1]]
        flats = [torch.cat([p.detach().flatten() for p in members]) for members in self.members]
        assert all(len(flat) % (2 * world) == 0 for flat in flats), "DeepSpeed would fill them up"
        self.parts = [[torch.nn.Parameter(part.clone()) for part in flat.chunk(world)] for flat in flats]

    def groups(self) -> list[dict[str, Any]]:
        """Matrices decay, vectors do not."""
        return [{"params": parts, "weight_decay": decay} for parts, decay in zip(self.parts, (DECAY, 0.0))]

    def take_gradients(self) -> None:
        """From the module."""
        for members, parts in zip(self.members, self.parts):
            whole = torch.cat([p.grad.flatten() for p in members])
            for part, gradient in zip(parts, whole.chunk(len(parts))):
                part.grad = gradient.clone()

    def give_weights(self) -> None:
        """To the module."""
        with torch.no_grad():
            for members, parts in zip(self.members, self.parts):
                values = torch.cat([part.detach() for part in parts]).split([p.numel() for p in members])
                for param, value in zip(members, values):
                    param.copy_(value.view_as(param))


def is_stack(name: str, param: torch.Tensor) -> bool:
    """Experts in one tensor."""
    return ".experts." in name and param.ndim == 3


def groups(units: Units, hidden: bool | None) -> list[dict[str, Any]]:
    """Matrices decay and vectors do not; of hidden matrices (True), of what is none (False), or of both."""

    def wanted(name: str, param: torch.nn.Parameter, decays: bool) -> bool:
        return (param.ndim > 1) == decays and (hidden is None or is_hidden_matrix(name, param) == hidden)

    found = [
        {"params": units.named(lambda n, p, d=decays: wanted(n, p, d)), "weight_decay": DECAY * decays}
        for decays in (True, False)
    ]
    return [group for group in found if group["params"]]


def oracle(config: OptimConfig, units: Units) -> list[torch.optim.Optimizer]:
    """torch's, bitsandbytes', schedulefree's and galore-torch's optimizers with the same settings."""
    betas, eps, rest = tuple(config.betas), config.eps, groups(units, False)
    plain = groups(units, None)
    if config.name == "adamw":
        return [torch.optim.AdamW(plain, betas=betas, eps=eps)]
    if config.name == "lomo":
        return [torch.optim.SGD(plain)]
    if config.name == "lion":
        return [bitsandbytes.optim.Lion(plain, betas=betas)]
    if config.name == "schedule_free":
        return [schedulefree.AdamWScheduleFree(plain, betas=betas, eps=eps, foreach=False)]
    if config.name == "adafactor":
        return [torch.optim.Adafactor(plain, beta2_decay=config.beta2_decay, d=config.update_clip)]
    adamw = torch.optim.AdamW(rest, betas=betas, eps=eps)
    if config.name == "muon":
        hidden = groups(units, True)
        return [torch.optim.Muon(hidden, momentum=config.momentum, adjust_lr_fn="match_rms_adamw"), adamw]
    directions = {"rank": config.rank, "update_proj_gap": config.refresh_every, "scale": config.scale, "proj_type": "std"}
    hidden = [group | directions for group in groups(units, True)]
    return [galore_torch.GaLoreAdamW(hidden, betas=betas, eps=eps, no_deprecation_warning=True), adamw]


def of_flats(config: OptimConfig, flats: Flats) -> list[torch.optim.Optimizer]:
    """bitsandbytes' own optimizers of 8 bits."""
    betas = tuple(config.betas)
    if config.name == "lion_8bit":
        return [bitsandbytes.optim.Lion8bit(flats.groups(), betas=betas)]
    return [bitsandbytes.optim.AdamW8bit(flats.groups(), betas=betas, eps=config.eps)]


def reference(config: OptimConfig, steps: int, world: int) -> tuple[list[float], dict[str, torch.Tensor]]:
    """(loss of each step, weights to read with afterwards) of one process. world: ranks whose blocks of 8 bits are meant."""
    from megatron.core.transformer.moe.moe_utils import MoEAuxLossAutoScaler

    module = tiny.build()
    units: Any = Flats(module, world) if "8bit" in config.name else Units(module)
    optimizers = of_flats(config, units) if "8bit" in config.name else oracle(config, units)

    MoEAuxLossAutoScaler.set_loss_scale(torch.ones(1))
    for optimizer in optimizers:
        getattr(optimizer, "train", lambda: None)()
    found = []
    for step in range(steps):
        for group in [group for optimizer in optimizers for group in optimizer.param_groups]:
            group["lr"] = rate(config, step)
        batch = tiny.global_batch(step)
        loss = tiny.objective(module, batch, batch.weights()).loss
        module.zero_grad()
        loss.backward()
        if config.name != "lomo":
            torch.nn.utils.clip_grad_norm_(module.parameters(), tiny.CLIP)
        units.take_gradients()
        for optimizer in optimizers:
            optimizer.step()
        units.give_weights()
        found.append(loss.item())
    for optimizer in optimizers:
        getattr(optimizer, "eval", lambda: None)()
    units.give_weights()
    return found, tiny.weights_of(module)
