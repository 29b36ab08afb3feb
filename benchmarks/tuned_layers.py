"""The same frozen linear layers with our low-rank factors around them, and with peft's."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from megatron.core.transformer.transformer_config import TransformerConfig

from conf.compose import Composer
from parallel.layers import Linear, transforms_in
from train.config import Config
from train.targets import chosen
from train.transform.low_rank import Factors, LowRank

ALPHA = 32.0


@dataclass
class Tuned:
    """Layers, the optimizer of their factors, and what must be told after its step."""

    modules: list[torch.nn.Module]
    optimizer: torch.optim.Optimizer
    stepped: Callable[[], None]


def shapes_of(model: str) -> list[tuple[int, int]]:
    """(outputs, inputs) of the linear layers of a model's first decoder layer: attention and the dense feed-forward."""
    config = Composer("config", Config).build([f"model={model}"])
    targets = chosen(config.model, ["attention", "dense"], "targets")
    return [(target.outputs, target.inputs) for target in targets if ".layers.0." in target.name]


def of_peft(kind: str, weights: list[torch.Tensor], rank: int) -> Tuned:
    """peft's layers as `get_peft_model` makes them."""
    from peft import LoraConfig, get_peft_model

    plain = torch.nn.ModuleDict()
    for number, weight in enumerate(weights):
        layer = plain[f"layer_{number}"] = torch.nn.Linear(*reversed(weight.shape), bias=False, device=weight.device, dtype=weight.dtype)
        layer.weight = torch.nn.Parameter(weight)
    config = LoraConfig(r=rank, lora_alpha=ALPHA, use_dora=kind == "dora", target_modules=list(plain))
    wrapped = get_peft_model(plain, config).base_model.model
    return Tuned(list(wrapped.values()), _optimizer(wrapped), lambda: None)


def ours(kind: str, weights: list[torch.Tensor], rank: int, theirs: Tuned) -> Tuned:
    """Our layers; their factors begin as those of `theirs`."""
    layers: list[torch.nn.Module] = []
    for number, (weight, other) in enumerate(zip(weights, theirs.modules)):
        outputs, inputs = weight.shape
        settings = TransformerConfig(num_layers=1, hidden_size=inputs, num_attention_heads=1, params_dtype=weight.dtype)
        layer = Linear(settings, inputs, outputs, bias=False)
        layer.weight = torch.nn.Parameter(weight, requires_grad=False)
        (site,) = layer.sites()
        link = LowRank(site, Factors(rank, ALPHA / rank, kind == "dora"), f"layer {number}", seed=0)
        with torch.no_grad():
            link.a.copy_(other.lora_A["default"].weight)  # type: ignore[union-attr, index]
        site.attach("low_rank", link)
        layers.append(layer)
    module = torch.nn.ModuleList(layers)
    links = transforms_in(module)
    return Tuned(layers, _optimizer(module), lambda: [link.weights_changed() for link in links] and None)


def _optimizer(module: torch.nn.Module) -> torch.optim.Optimizer:
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=1e-4, fused=True)  # as flat as an engine's: many small tensors cost nothing of their own
