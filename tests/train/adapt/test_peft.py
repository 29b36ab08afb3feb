"""Prompts, prefixes and their networks are peft's, on the same Llama: loss, gradients and steps of AdamW.

Ours reads all texts in one row, theirs one after the other. fp32: sums are taken in another order, which moves the last bits
(6e-8 each) and adds up over three layers; 1e-5 of the largest value is allowed.
"""

from collections.abc import Callable

import pytest
import torch

pytest.importorskip("peft", reason="peft is absent: install the extra `dev`")
import peft

from tests.train.adapt.llama import our_loss, our_model, their_loss, their_model
from train.config import TuneConfig

pytestmark = [
    pytest.mark.usefixtures("one_process"),
    pytest.mark.filterwarnings("ignore"),  # of peft and transformers, about each other
]
TOKENS, WIDTH, LAYERS, HEADS, HEAD = 5, 24, 3, 4, 16
CLOSE = 1e-5


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert (found - wanted).abs().max() <= CLOSE * wanted.abs().max()


def turned(keys: torch.Tensor, steps: int) -> torch.Tensor:
    """Keys [..., H] as the rotary angles of `steps` positions turn them."""
    angles = steps / 10000.0 ** (torch.arange(0, HEAD, 2) / HEAD)
    cosines, sines = angles.cos(), angles.sin()
    first, second = keys.chunk(2, -1)
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], -1)


def by_layer(theirs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """peft's keys and values [..., LAYERS * 2 * D] as ours are, [..., LAYERS, N, H] each. peft's tokens begin at position
    TOKENS, ours at 0: to the same effect, its keys are turned back.
    """
    keys, values = theirs.unflatten(-1, (LAYERS, 2, HEADS, HEAD)).unbind(-3)
    return turned(keys, -TOKENS), values


def test_a_learned_prompt_is_pefts_over_steps_of_adamw() -> None:
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=TOKENS)
    ours = our_model(base := their_model(), TuneConfig(kind="prompt", tokens=TOKENS))
    theirs = peft.get_peft_model(base, config)
    rows, embedding = ours.prompt.rows, theirs.prompt_encoder.default.embedding.weight
    with torch.no_grad():
        rows.copy_(embedding)
    steps_alike(ours, theirs, {rows: embedding})


def test_p_tunings_network_is_pefts_over_steps_of_adamw() -> None:
    config = peft.PromptEncoderConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=TOKENS, encoder_hidden_size=WIDTH
    )
    tune = TuneConfig(kind="p_tuning", tokens=TOKENS, width=WIDTH)
    ours = our_model(base := their_model(), tune)
    theirs = peft.get_peft_model(base, config)
    encoder, prompt = theirs.prompt_encoder.default, ours.prompt
    pairs = {prompt.table: encoder.embedding.weight}
    for layer, number in ((prompt.first, 0), (prompt.second, 2), (prompt.third, 4)):
        pairs |= {layer.weight: encoder.mlp_head[number].weight, layer.bias: encoder.mlp_head[number].bias}
    with torch.no_grad():
        for mine, other in pairs.items():
            mine.copy_(other)
    steps_alike(ours, theirs, pairs)


def steps_alike(ours: torch.nn.Module, theirs: torch.nn.Module, pairs: dict) -> None:
    """Loss, gradients and the parameters of `pairs` stay alike over 4 steps."""
    assert {parameter for parameter in ours.parameters() if parameter.requires_grad} == set(pairs)
    optimizers = [torch.optim.AdamW(some, lr=1e-2, eps=1e-4) for some in (list(pairs), list(pairs.values()))]
    for _ in range(4):
        losses = our_loss(ours, TOKENS), their_loss(theirs)
        close(*losses)
        for loss in losses:
            loss.backward()
        for mine, other in pairs.items():
            close(mine.grad, other.grad)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    for mine, other in pairs.items():
        close(mine, other)


def test_p_tuning_v2_is_pefts_prefix_without_a_network() -> None:
    config = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=TOKENS)
    ours = our_model(base := their_model(), TuneConfig(kind="p_tuning_v2", tokens=TOKENS))
    theirs = peft.get_peft_model(base, config)
    embedding = theirs.prompt_encoder.default.embedding.weight
    prefixes = [layer.self_attention.core_attention.prefix for layer in ours.decoder.layers]

    def compared(act: Callable[[torch.nn.Parameter, torch.Tensor], None], value: torch.Tensor) -> None:
        keys, values = by_layer(value)  # [P, layers, N, H]
        for number, prefix in enumerate(prefixes):
            act(prefix.keys, keys[:, number].transpose(0, 1))
            act(prefix.values, values[:, number].transpose(0, 1))

    with torch.no_grad():
        compared(lambda own, value: own.copy_(value), embedding)
    losses_alike(ours, theirs)
    compared(lambda own, value: close(own.grad, value), embedding.grad)


def test_prefix_tunings_network_is_pefts_with_a_copy_in_each_layer() -> None:
    """So the gradients of their shared part are the sums of those of our copies."""
    config = peft.PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=TOKENS, prefix_projection=True, encoder_hidden_size=WIDTH
    )
    ours = our_model(base := their_model(), TuneConfig(kind="prefix", tokens=TOKENS, width=WIDTH))
    theirs = peft.get_peft_model(base, config)
    encoder = theirs.prompt_encoder.default
    first, _, last = encoder.transform
    prefixes = [layer.self_attention.core_attention.prefix for layer in ours.decoder.layers]

    def outputs(value: torch.Tensor) -> list[torch.Tensor]:
        """Their last matrix (or bias), cut by layers, its rows as those of ours."""
        keys, values = by_layer(value.t() if value.dim() > 1 else value)  # [.., layers, N, H]
        rows = torch.stack([keys, values], -2).flatten(-3)  # [.., layers, N * 2 * H]
        return [part.t() if part.dim() > 1 else part for part in rows.unbind(-2)]

    with torch.no_grad():
        for prefix, weight, bias in zip(prefixes, outputs(last.weight), outputs(last.bias), strict=True):
            prefix.table.copy_(encoder.embedding.weight)
            prefix.hidden.weight.copy_(first.weight)
            prefix.hidden.bias.copy_(first.bias)
            prefix.out.weight.copy_(weight)
            prefix.out.bias.copy_(bias)
    losses_alike(ours, theirs)
    for name, shared in {"table": encoder.embedding.weight, "hidden.weight": first.weight}.items():
        close(sum(prefix.get_parameter(name).grad for prefix in prefixes), shared.grad)
    parts = zip(prefixes, outputs(last.weight.grad), outputs(last.bias.grad), strict=True)
    for prefix, weight, bias in parts:
        close(prefix.out.weight.grad, weight)
        close(prefix.out.bias.grad, bias)


def losses_alike(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    """Both losses, with their gradients."""
    losses = our_loss(ours, 0), their_loss(theirs)
    close(*losses)
    for loss in losses:
        loss.backward()


def test_adapters_are_networks_behind_attention_and_feed_forward() -> None:
    """By hooks of plain torch on the Llama, with other values than zero in the adapters."""
    ours = our_model(base := their_model(), TuneConfig(kind="adapter", width=WIDTH))
    close(our_loss(ours, 0), their_loss(base))
    assert torch.equal(our_loss(ours, 0), our_loss(our_model(base, TuneConfig()), 0)), (
        "the identity at the start"
    )
    torch.manual_seed(1)
    pairs = {}
    for layer, other in zip(ours.decoder.layers, base.model.layers, strict=True):
        for adapter, part in ((layer.attention_adapter, other.self_attn), (layer.feed_adapter, other.mlp)):
            down, up = torch.nn.Linear(64, WIDTH), torch.nn.Linear(WIDTH, 64)
            part.register_forward_hook(behind(down, up))
            pairs |= {adapter.down.weight: down.weight, adapter.down.bias: down.bias}
            pairs |= {adapter.up.weight: up.weight, adapter.up.bias: up.bias}
    with torch.no_grad():
        for mine, other in pairs.items():
            mine.copy_(other)
    base.requires_grad_(False)
    losses_alike(ours, base)
    for mine, other in pairs.items():
        close(mine.grad, other.grad)


def behind(down: torch.nn.Linear, up: torch.nn.Linear) -> Callable:
    """A hook that adds a network of a module's output to it."""

    def hook(_module: torch.nn.Module, _inputs: object, output: torch.Tensor | tuple) -> torch.Tensor | tuple:
        out, *rest = output if isinstance(output, tuple) else (output,)
        out = out + up(torch.nn.functional.gelu(down(out)))
        return (out, *rest) if isinstance(output, tuple) else out

    return hook
