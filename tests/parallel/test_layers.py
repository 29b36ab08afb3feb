"""Experts, router and containers against plain formulas."""

import copy

import pytest
import torch
import torch.nn.functional as F

from parallel import topology


@pytest.fixture(scope="module")
def config():
    topology.start(topology.Topology(), seed=0)
    from megatron.core.transformer.transformer_config import TransformerConfig

    yield TransformerConfig(
        num_layers=1,
        hidden_size=16,
        num_attention_heads=2,
        use_cpu_initialization=True,
        add_bias_linear=False,
        gated_linear_unit=True,
        activation_func=F.silu,
        gradient_accumulation_fusion=False,
        attention_dropout=0.0,
        num_moe_experts=6,
        moe_ffn_hidden_size=8,
        moe_router_topk=2,
        moe_router_pre_softmax=True,
        moe_router_load_balancing_type="seq_aux_loss",
        moe_aux_loss_coeff=0.5,
    )
    topology.stop()


@pytest.fixture
def groups():
    from megatron.core.transformer.moe.moe_utils import get_default_pg_collection

    return get_default_pg_collection()


def filled(module: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.5)
    return module


def test_experts_equal_a_loop_and_idle_ones_get_zero_gradients(config, groups) -> None:
    from parallel.layers import Experts

    experts = filled(Experts(6, config, pg_collection=groups))
    counts = torch.tensor([3, 0, 4, 1, 0, 2])
    hidden, probs = torch.randn(10, 16), torch.rand(10)
    out, bias = experts(hidden, counts, probs)
    assert bias is None
    parts = []
    inputs = zip(hidden.split(counts.tolist()), probs.split(counts.tolist()), strict=True)
    for fc1, fc2, (x, p) in zip(experts.fc1, experts.fc2, inputs, strict=True):
        gate, up = (x @ fc1.T).chunk(2, -1)
        parts.append((F.silu(gate) * up * p[:, None]) @ fc2.T)
    torch.testing.assert_close(out, torch.cat(parts))
    out.square().sum().backward()
    for parameter in experts.parameters():
        idle = counts == 0
        assert parameter.grad[~idle].abs().flatten(1).sum(1).all()
        assert not parameter.grad[idle].any()


def test_experts_look_up_the_tokens_of_their_rows_and_add_up_what_they_make_of_each(config, groups) -> None:
    from parallel.layers import Experts

    experts = filled(Experts(6, config, pg_collection=groups))
    counts, places = torch.tensor([3, 0, 4, 1, 0, 2]), torch.tensor([0, 2, 4, 0, 1, 2, 3, 4, 1, 3])
    hidden, probs = torch.randn(5, 16, requires_grad=True), torch.rand(10, requires_grad=True)
    rows, _ = experts(hidden[places], counts, probs)
    expected = torch.zeros(5, 16).index_add(0, places, rows)
    found, _ = experts(hidden, counts, probs, places)
    torch.testing.assert_close(found, expected)
    inputs, weights = (hidden, probs, experts.fc1, experts.fc2), torch.linspace(-1, 1, 80).view(5, 16)
    for one, other in zip(*(torch.autograd.grad((out * weights).sum(), inputs) for out in (found, expected))):
        torch.testing.assert_close(one, other)


def test_swiglu_keeps_its_input_only_and_has_the_right_gradient(config) -> None:
    from parallel.layers.activations import SwiGLU

    halves = torch.randn(7, 10, requires_grad=True)
    gate, up = halves.chunk(2, -1)
    expected = F.silu(gate) * up
    found = SwiGLU(config)(halves)
    torch.testing.assert_close(found, expected)
    assert [tensor.shape for tensor in found.grad_fn.saved_tensors] == [halves.shape]
    weights = torch.linspace(-1, 1, 35).view(7, 5)
    grads = [torch.autograd.grad((out * weights).sum(), halves)[0] for out in (found, expected)]
    torch.testing.assert_close(*grads)


def test_experts_with_no_token_at_all_get_gradients(config, groups) -> None:
    from parallel.layers import Experts

    experts = filled(Experts(6, config, pg_collection=groups))
    out, _ = experts(torch.zeros(0, 16, requires_grad=True), torch.zeros(6, dtype=torch.long), torch.zeros(0))
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in experts.parameters())


def test_experts_are_ordinary_parameters_unless_ranks_share_them(config, groups) -> None:
    from parallel.layers import Experts

    assert all(parameter.allreduce for parameter in Experts(6, config, pg_collection=groups).parameters())
    split = copy.copy(config)
    split.expert_model_parallel_size = 2
    for parameter in Experts(3, split, pg_collection=groups).parameters():
        assert not parameter.allreduce and parameter.tensor_model_parallel


def test_router_keeps_the_softmax_weights_of_the_best(config, groups) -> None:
    from parallel.layers import Router

    router = filled(Router(config, pg_collection=groups)).eval()
    x = torch.randn(5, 3, 16)
    weights, chosen = router(x)
    scores = (x.view(15, 16) @ router.weight.T).softmax(-1)
    values, indices = scores.topk(2, -1)
    assert chosen.dtype == torch.bool and (chosen.sum(-1) == 2).all()
    torch.testing.assert_close(weights, torch.zeros_like(scores).scatter(1, indices, values))
    assert (weights.sum(-1) < 1).all()  # not renormalised


def test_router_refuses_options_it_would_ignore(config, groups) -> None:
    from parallel.layers import Router

    other = copy.copy(config)
    other.moe_router_pre_softmax = False
    with pytest.raises(ValueError, match="moe_router_pre_softmax=True"):
        Router(other, pg_collection=groups)


def balance_by_the_published_formula(scores, best, valid, topk: int) -> torch.Tensor:
    """Row by row, as DeepSeek-V2's MoEGate does for rows without padding."""
    rows = []
    for b in range(scores.shape[1]):
        row, choice = scores[valid[:, b], b], best[valid[:, b], b]
        experts, length = row.shape[-1], row.shape[0]
        counts = F.one_hot(choice, experts).sum((0, 1)).float()
        rows.append((counts / (length * topk / experts) * row.mean(0)).sum())
    return torch.stack(rows).mean()


def test_balance_loss_is_the_published_one_and_blind_to_padding() -> None:
    from parallel.layers import sequence_balance_loss

    torch.manual_seed(2)
    scores = torch.randn(12, 3, 6).softmax(-1)
    best = scores.topk(2, -1).indices
    chosen = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, best, True)
    padding = torch.zeros(12, 3, dtype=torch.bool)
    padding[9:, 1] = True
    padding[4:, 2] = True
    for mask, valid in ((None, torch.ones_like(padding)), (padding, ~padding)):
        expected = balance_by_the_published_formula(scores, best, valid, topk=2)
        torch.testing.assert_close(sequence_balance_loss(scores, chosen, mask, topk=2), expected)
    scrambled = torch.where(padding.unsqueeze(-1), torch.rand_like(scores), scores)
    torch.testing.assert_close(
        sequence_balance_loss(scrambled, chosen, padding, 2),
        sequence_balance_loss(scores, chosen, padding, 2),
    )


def test_balance_loss_is_one_when_balanced_and_zero_for_a_row_of_padding() -> None:
    from parallel.layers import sequence_balance_loss

    scores = torch.full((6, 1, 6), 1 / 6)
    chosen = torch.eye(6, dtype=torch.bool).unsqueeze(1) | torch.eye(6, dtype=torch.bool).roll(
        1, 0
    ).unsqueeze(1)
    torch.testing.assert_close(sequence_balance_loss(scores, chosen, None, topk=2), torch.tensor(1.0))
    everything = torch.ones(6, 1, dtype=torch.bool)
    assert sequence_balance_loss(scores, chosen, everything, topk=2) == 0


def test_balance_loss_reaches_the_router_scaled_and_only_in_training(config, groups) -> None:
    from parallel.layers import Router, sequence_balance_loss

    router = filled(Router(config, pg_collection=groups))
    x = torch.randn(8, 2, 16)
    padding = torch.zeros(8, 2, dtype=torch.bool)
    padding[5:, 0] = True
    weights, _ = router(x, padding)
    (weights.sum() * 0).backward()
    got = router.weight.grad.clone()

    scores = F.linear(x, router.weight).softmax(-1)
    chosen = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, scores.topk(2, -1).indices, True)
    (expected,) = torch.autograd.grad(0.5 * sequence_balance_loss(scores, chosen, padding, 2), router.weight)
    torch.testing.assert_close(got, expected)

    router.eval()
    router.weight.grad = None
    weights, _ = router(x, padding)
    (weights.sum() * 0).backward()
    assert not router.weight.grad.any()


def test_module_list_shows_its_childrens_shards(config) -> None:
    from parallel.layers import ColumnLinear, Module, ModuleList

    class Block(Module):
        def __init__(self) -> None:
            super().__init__(config)
            self.layers = ModuleList([ColumnLinear(config, 16, 8)])

    shards = Block().sharded_state_dict("block.")
    assert shards["block.layers.0.weight"].key == "block.layers.0.weight"
    assert shards["block.layers.0.weight"].global_shape == (8, 16)


def test_chunks_describe_every_piece_under_its_global_name(config) -> None:
    from parallel.layers import Chunks, ColumnLinear, Module

    class Piece(Module):
        def __init__(self, number: int) -> None:
            super().__init__(config)
            self.number, self.linear = number, ColumnLinear(config, 16, 8)

        def sharded_state_dict(self, prefix="", sharded_offsets=(), metadata=None):
            return super().sharded_state_dict(f"{prefix}layers.{self.number}.", sharded_offsets, metadata)

    pieces = [Piece(0), Piece(2)]
    shards = Chunks(pieces).sharded_state_dict()
    found = {shard.key: shard.data for shard in shards.values() if getattr(shard, "data", None) is not None}
    assert set(found) == {
        f"layers.{number}.linear.{name}" for number in (0, 2) for name in ("weight", "bias")
    }
    for piece in pieces:
        assert found[f"layers.{piece.number}.linear.weight"] is piece.linear.weight


def test_heads_are_shared_out_where_they_divide_and_the_part_is_not_kept_whole(config, monkeypatch) -> None:
    from megatron.core import parallel_state

    from parallel.layers import splits

    split, whole = copy.copy(config), copy.copy(config)
    split.tensor_model_parallel_size = 4
    monkeypatch.setattr(parallel_state, "get_tensor_model_parallel_world_size", lambda: 4)
    assert splits(split, 8) and not splits(split, 6)
    assert not splits(whole, 8)


@pytest.mark.parametrize("learns", [True, False])
def test_what_is_computed_again_learns_though_its_input_does_not(config, learns: bool) -> None:
    from parallel.layers import Linear, Module, recomputed

    class Block(Module):
        def forward(self, stacks):
            return [self.linear(x).relu() for x in stacks]

    again = copy.copy(config)
    again.recompute_granularity = "full"
    block = Block(again)
    block.linear = filled(Linear(config, 16, 16)).requires_grad_(learns)
    x = torch.randn(3, 16)
    (out,) = recomputed("full", block, block, [x])
    assert out.requires_grad == learns and not x.requires_grad
    if learns:
        out.sum().backward()
        (expected,) = torch.autograd.grad(block([x])[0].sum(), block.linear.weight)
        assert torch.equal(block.linear.weight.grad, expected)


def test_attention_without_bias_equals_the_textbook(config) -> None:
    from parallel.layers import Attention

    attention = filled(Attention(config, 16, 2))
    x = torch.randn(3, 7, 16)
    q, k, v = attention.qkv(x).view(3, 7, 2, 3, 8).permute(3, 0, 2, 1, 4)
    weights = (q @ k.transpose(-1, -2) / 8**0.5).softmax(-1)
    expected = attention.proj((weights @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x), expected)


def test_core_attention_refuses_what_it_would_ignore(config) -> None:
    from megatron.core.transformer.enums import AttnMaskType

    from parallel.layers import CausalAttentionCore

    dropping = copy.copy(config)
    dropping.attention_dropout = 0.1
    with pytest.raises(ValueError, match="dropout"):
        CausalAttentionCore(dropping, 1, AttnMaskType.causal, "self")


@pytest.mark.parametrize("labelled", ["some", "none", "all"])
def test_the_output_layer_gives_the_loss_of_the_labelled_positions_alone(config, labelled: str, monkeypatch) -> None:
    from parallel.layers import OutputLayer, output

    monkeypatch.setattr(output, "_BLOCK", 64 * 50)  # several blocks, and a rest
    layer = filled(OutputLayer(16, 50, config=config, init_method=config.init_method, bias=False))
    torch.manual_seed(3)
    hidden = torch.randn(60, 3, 16, requires_grad=True)
    labels = torch.randint(0, 50, (3, 60))
    if labelled != "all":
        labels[:, : 20 if labelled == "some" else 60] = -100
    logits = layer(hidden)[0].double().transpose(0, 1)
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
    found, _ = layer(hidden, labels=labels)
    torch.testing.assert_close(found.double(), expected)
    wanted = torch.autograd.grad(3 * expected, (hidden, layer.weight))
    for one, other in zip(torch.autograd.grad(3 * found, (hidden, layer.weight)), wanted):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        torch.testing.assert_close(layer(hidden, labels=labels)[0].double(), expected)
