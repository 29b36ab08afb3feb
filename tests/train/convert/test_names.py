"""Released names and ours: the published list, our model's own keys, and the order of rows."""

import math
from dataclasses import replace

import pytest
import torch

from tests.train.convert.folders import size
from tests.train.model.small_model import small_model
from train.convert.architecture import published
from train.convert.names import (
    PATCH_EMBEDDING,
    Part,
    box_of,
    entries,
    ours,
    released_shapes,
    theirs,
    to_ours,
)


def test_the_published_model_has_the_published_number_of_tensors_and_bytes() -> None:
    """2710 entries and metadata.total_size of the release's own index, in bf16."""
    shapes = {**released_shapes(published()), PATCH_EMBEDDING: (1024, 3, 14, 14)}
    assert len(shapes) == 2710
    assert 2 * sum(math.prod(shape) for shape in shapes.values()) == 6_672_212_480


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("lm_head.weight", (129280, 1280)),
        ("model.embed_tokens.weight", (129280, 1280)),
        ("model.image_newline", (1280,)),
        ("model.view_seperator", (1280,)),
        ("model.projector.layers.weight", (1280, 2048)),
        ("model.layers.11.self_attn.k_proj.weight", (1280, 1280)),
        ("model.layers.0.mlp.up_proj.weight", (6848, 1280)),
        ("model.layers.1.mlp.gate.weight", (64, 1280)),
        ("model.layers.11.mlp.experts.63.down_proj.weight", (1280, 896)),
        ("model.layers.5.mlp.shared_experts.gate_proj.weight", (1792, 1280)),
        ("model.sam_model.pos_embed", (1, 64, 64, 768)),
        ("model.sam_model.blocks.2.attn.rel_pos_h", (127, 64)),
        ("model.sam_model.blocks.3.attn.rel_pos_w", (27, 64)),
        ("model.sam_model.blocks.11.mlp.lin1.weight", (3072, 768)),
        ("model.sam_model.neck.2.weight", (256, 256, 3, 3)),
        ("model.sam_model.net_3.weight", (1024, 512, 3, 3)),
        ("model.vision_model.embeddings.class_embedding", (1024,)),
        ("model.vision_model.embeddings.position_embedding.weight", (257, 1024)),
        ("model.vision_model.pre_layrnorm.bias", (1024,)),
        ("model.vision_model.transformer.layers.23.self_attn.qkv_proj.weight", (3072, 1024)),
        ("model.vision_model.transformer.layers.0.mlp.fc2.weight", (1024, 4096)),
    ],
)
def test_published_names_have_the_published_shapes(name: str, shape: tuple[int, ...]) -> None:
    assert released_shapes(published())[name] == shape


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("kind", ["small", "published", "dense"])
def test_keys_and_shapes_are_those_of_our_model(kind: str) -> None:
    from parallel.snapshot import cut, describe
    from train.model.optical import build

    model = published() if kind == "published" else small_model()
    model.glyph_heads = False
    if kind == "dense":
        model = replace(model, decoder=replace(model.decoder, dense_layers=model.decoder.layers))
    module = build(model, 100, device="meta")
    wanted = {piece.key: piece.shape for entry in describe(module) for piece in cut(entry, entry.data, "")}
    assert {entry.key: entry.shape for entry in entries(model)} == wanted


def test_every_part_fills_its_tensor_exactly_once() -> None:
    for entry in entries(size()):
        filled = torch.zeros(entry.shape, dtype=torch.int)
        for part in entry.parts:
            box_of(part, filled).add_(1)
        assert (filled == 1).all(), entry.key


def test_rows_of_query_key_and_value_are_ordered_head_by_head() -> None:
    """Two heads of two rows each; the numbers say kind, head and row."""
    kinds = [
        torch.tensor([kind * 100 + head * 10 + row for head in (0, 1) for row in (0, 1)])
        for kind in (1, 2, 3)
    ]
    by_head = torch.tensor([100, 101, 200, 201, 300, 301, 110, 111, 210, 211, 310, 311])
    apart = Part(("q", "k", "v"), (4,), (0,), (12,), heads=2)
    fused = Part(("qkv",), (12,), (0,), (12,), heads=2)
    assert torch.equal(ours(apart, kinds), by_head) and torch.equal(ours(fused, [torch.cat(kinds)]), by_head)
    assert all(map(torch.equal, theirs(apart, by_head), kinds))
    assert torch.equal(theirs(fused, by_head)[0], torch.cat(kinds))


def test_experts_and_gate_and_up_stand_where_our_layers_look_for_them() -> None:
    model = size()
    named = {
        name: torch.full(shape, float(number))
        for number, (name, shape) in enumerate(released_shapes(model).items())
    }
    found, hidden = to_ours(model, named), model.decoder.expert_ffn
    layer = "model.layers.2.mlp."
    for expert in range(model.decoder.experts):
        stacked = found["decoder.decoder.layers.2.mlp.experts.experts.linear_fc1.weight"][expert]
        assert (stacked[:hidden] == named[f"{layer}experts.{expert}.gate_proj.weight"]).all()
        assert (stacked[hidden:] == named[f"{layer}experts.{expert}.up_proj.weight"]).all()
    shared = found["decoder.decoder.layers.2.mlp.shared_experts.linear_fc1.weight"]
    assert (shared[-1] == named[f"{layer}shared_experts.up_proj.weight"][0]).all()
