"""What each of two tensor-parallel ranks does for `test_tensor`. Torch is imported inside: the ranks import this file
before their environment is complete.
"""

from typing import Any

from train.config import ModelConfig, ParallelConfig

CASES: dict[str, tuple[dict[str, Any], str, str]] = {  # sizes, variant of the model, recompute
    "heads divide": ({}, "", "none"),
    "heads divide, all split": ({"encoder": "split"}, "", "none"),
    "heads do not divide": ({}, "odd", "none"),
    "encoder replicated": ({"encoder": "replicate"}, "", "none"),
    "encoder replicated, heads do not divide": ({"encoder": "replicate"}, "odd", "none"),
    "tied embeddings": ({}, "tied", "none"),
    "selective recompute": ({}, "", "selective"),
    "full recompute": ({}, "odd", "full"),
    "whole sequences": ({"sequence": False}, "dense", "none"),
    "factored matrices": ({}, "factored", "none"),
    "factored matrices, whole sequences": ({"sequence": False}, "dense, factored", "none"),
    "heads of a width of their own": ({"encoder": "split"}, "pruned", "none"),
}


def variant(name: str) -> ModelConfig:
    """The small model; odd: with heads that two ranks cannot share. tied: embeddings. dense: without experts. factored: two
    matrices in the place of one. pruned: fewer heads than share out the width.
    """
    from tests.train.model.small_model import small_model

    model = small_model()
    if name == "odd":
        encoder = model.encoder
        encoder.window_width, encoder.window_heads, encoder.global_heads = 24, 3, 3
    if "factored" in name:
        model.decoder.attention_rank, model.decoder.ffn_rank = 10, 14
    if name == "pruned":
        model.decoder.heads, model.decoder.head_width = 2, 10
        model.encoder.global_heads, model.encoder.global_head_width = 2, 12
        model.encoder.window_head_width = 12
    if "dense" in name:
        model.decoder.dense_layers = model.decoder.layers
    model.decoder.tied_embeddings = name == "tied"
    return model


def play() -> dict[str, Any]:
    """Of each case: logits, gradient pieces, and which linear layers of the encoder are split."""
    from parallel import topology

    topology.start(topology.Topology(tensor=2), seed=0)
    found = {name: one(*case, tensor=2) for name, case in CASES.items()}
    topology.stop()
    return found


def one(sizes: dict[str, Any], name: str, recompute: str, tensor: int = 1) -> Any:
    """(logits, gradient pieces, split linear layers of the encoder) of one case."""
    from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear
    from megatron.core.tensor_parallel import gather_from_tensor_model_parallel_region as gathered

    from tests.train.model.small_model import (
        IMAGE_TOKEN,
        gradient_pieces,
        noise_pages,
        objective,
        without_zeros,
    )
    from train.model.optical import build

    model = build(
        variant(name), IMAGE_TOKEN, ParallelConfig(tensor=tensor, **sizes), recompute=recompute, seed=3
    )
    without_zeros(model)
    output = model(noise_pages(), with_glyphs=True)
    objective(output).backward()
    split = {
        path.split(".")[-1]
        for path, module in model.encoder.named_modules()
        if isinstance(module, (ColumnParallelLinear, RowParallelLinear))
    }
    return gathered(output.logits).detach().numpy(), list(gradient_pieces(model)), split
