"""Experts with factors, and the same with peft: one linear layer for each of them, as the released model has it."""

from types import SimpleNamespace
from typing import Any

import peft
import torch
import torch.nn.functional as F
from megatron.core.process_groups_config import ProcessGroupCollection

from parallel.layers import Experts
from tests.train.transform.layers import EXACT, RANK, SCALE, WIDTH, config, drawn
from train.transform.low_rank import Factors, LowRank

COUNT, HIDDEN = 3, 20
TOKENS = (5, 0, 7)  # of each expert; one has none


def expert_task() -> SimpleNamespace:
    """Rows sorted by expert, with their routing weights."""
    rows = sum(TOKENS)
    return SimpleNamespace(
        x=drawn("rows", rows, WIDTH),
        weights=drawn("routing", rows).abs(),
        target=drawn("wanted", rows, WIDTH),
    )


def learn_with_ours(work: SimpleNamespace, steps: int) -> dict[str, Any]:
    """Losses and final factors, by expert and by the names that peft's layers have."""
    shape = config()
    shape.moe_ffn_hidden_size = HIDDEN
    experts = Experts(COUNT, shape, pg_collection=ProcessGroupCollection.use_mpu_process_groups())
    experts.requires_grad_(False)
    with torch.no_grad():
        experts.fc1.copy_(drawn("fc1", COUNT, 2 * HIDDEN, WIDTH))
        experts.fc2.copy_(drawn("fc2", COUNT, WIDTH, HIDDEN))
    for site in experts.sites():
        factors = LowRank(site, Factors(RANK, SCALE, magnitude=True), site.parameter, seed=0)
        with torch.no_grad():
            factors.a.copy_(drawn(f"{site.parameter} a", *factors.a.shape))
        site.attach("low_rank", factors)
    counts = torch.tensor(TOKENS)
    losses = _learn(experts, lambda: experts(work.x, counts, work.weights)[0], work, steps)
    factors = {}
    for number in range(COUNT):
        for name in ("fc1", "fc2"):
            for kind, value in experts.chain(name)["low_rank"].named_parameters():
                factors[f"{number}.{name}.{kind}"] = value.detach()[number]
    return {"losses": losses, "factors": factors}


def learn_with_peft(work: SimpleNamespace, steps: int) -> dict[str, Any]:
    """The same by peft's DoRA."""

    class Apart(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, shape in (("fc1", (2 * HIDDEN, WIDTH)), ("fc2", (WIDTH, HIDDEN))):
                layers = torch.nn.ModuleList(
                    torch.nn.Linear(shape[1], shape[0], False, dtype=EXACT) for _ in range(COUNT)
                )
                self.add_module(name, layers)
                for layer, value in zip(layers, drawn(name, COUNT, *shape)):
                    layer.weight.data = value

        def forward(self) -> torch.Tensor:
            out = []
            for fc1, fc2, x, weight in zip(
                self.fc1, self.fc2, work.x.split(TOKENS), work.weights.split(TOKENS)
            ):
                gate, up = fc1(x).chunk(2, -1)
                out.append(fc2(F.silu(gate) * up * weight[:, None]))
            return torch.cat(out)

    settings = peft.LoraConfig(r=RANK, lora_alpha=SCALE * RANK, use_dora=True, target_modules=r"fc[12]\.\d+")
    tuned = peft.get_peft_model(Apart(), settings, autocast_adapter_dtype=False)
    layers = tuned.base_model.model
    for name in ("fc1", "fc2"):
        for number, value in enumerate(drawn(f"{name} a", COUNT, RANK, WIDTH if name == "fc1" else HIDDEN)):
            layer = getattr(layers, name)[number]
            layer.lora_A["default"].weight.data = value
            layer.lora_B["default"].weight.data = layer.lora_B["default"].weight.data.double()
    losses = _learn(tuned, lambda: tuned.base_model.model(), work, steps)
    factors = {}
    for number in range(COUNT):
        for name in ("fc1", "fc2"):
            layer = getattr(layers, name)[number]
            kinds = {"a": layer.lora_A, "b": layer.lora_B, "m": layer.lora_magnitude_vector}
            for kind, modules in kinds.items():
                factors[f"{number}.{name}.{kind}"] = modules["default"].weight.detach()
    return {"losses": losses, "factors": factors}


def _learn(module: torch.nn.Module, compute: Any, work: SimpleNamespace, steps: int) -> list[float]:
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (compute() - work.target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
