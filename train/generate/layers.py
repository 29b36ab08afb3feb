"""The decoder's layers for reading, as functions over the trained parameters: attention with a cache, feed-forward,
mixture of experts.

Shapes: B rows, Q new positions of each, R = B * Q, D width, N heads of this rank, H head width, L positions that are
read, E experts of this rank, F features, K experts a token, P = R * K pairs of a token and an expert.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from train.adapt.adapter import ADAPTERS
from train.adapt.prefix import prefix_of
from train.generate.cache import Cache, Places


class TensorRanks:
    """The ranks that share each matrix; one process alone has no group and says nothing to anyone."""

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self.group = group
        self.rank, self.size = (0, 1) if group is None else (group.rank(), group.size())

    def total(self, part: Tensor) -> Tensor:
        """The sum of what each rank has, in place."""
        if self.group is not None:
            dist.all_reduce(part, group=self.group)
        return part

    def joined(self, part: Tensor) -> Tensor:
        """What each rank has, one after the other along the last axis."""
        if self.group is None:
            return part
        parts = [torch.empty_like(part) for _ in range(self.size)]
        dist.all_gather(parts, part.contiguous(), group=self.group)
        return torch.cat(parts, dim=-1)


FEW = 8  # rows up to which a product takes as long as reading its matrix
LARGE = 2**16  # elements of an expert's matrix from which on reading it takes longer than the call


class Matrix:
    """y = x Wᵀ. For few rows on a CPU with the matrix as the left factor, in quarters for a single row: MKL then reads it
    two to three times as fast (docs/journal.md).
    """

    def __init__(self, weight_OD: Tensor) -> None:
        self.weight = weight_OD
        self.few = FEW if weight_OD.device.type == "cpu" and len(weight_OD) % 4 == 0 else 0
        self.quarters = weight_OD.detach().unflatten(0, (4, -1)) if self.few else weight_OD

    def __call__(self, x_RD: Tensor) -> Tensor:
        """[R, D] -> [R, O]."""
        rows = len(x_RD)
        if rows > self.few:
            return F.linear(x_RD, self.weight)
        if rows == 1:
            return torch.bmm(self.quarters, x_RD.t().expand(4, -1, -1)).view(1, -1)
        return torch.mm(self.weight, x_RD.t()).t().contiguous()


class Factors:
    """y = (x Nᵀ) Wᵀ, of a matrix that was cut in two. Where ranks hold parts of N, each has a part of the sum that y is."""

    def __init__(self, narrow: Matrix, wide: Matrix) -> None:
        self.narrow, self.wide = narrow, wide

    def __call__(self, x_RD: Tensor) -> Tensor:
        """[R, D] -> [R, O]."""
        return self.wide(self.narrow(x_RD))


def product_of(linear: Any) -> Matrix | Factors:
    """The product with the weight of one of the decoder's linear layers."""
    if hasattr(linear, "narrow"):
        return Factors(Matrix(linear.narrow.weight), Matrix(linear.wide.weight))
    return Matrix(linear.weight)


class Norm:
    """Root-mean-square norm in fp32: w x sqrt(D) / hypot(|x|, sqrt(D eps)), in half as many operations as torch's."""

    def __init__(self, module: Any) -> None:
        width = module.weight.numel()
        self.weight = module.weight.detach().float() * width**0.5
        self.floor = self.weight.new_tensor((width * module.eps) ** 0.5)

    def __call__(self, x_RD: Tensor) -> Tensor:
        """[R, D] -> [R, D]."""
        x = x_RD.float()
        lengths = torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), self.floor)
        return (x * self.weight).div_(lengths).to(x_RD.dtype)


@dataclass(frozen=True)
class Pass:
    """What all layers share in one pass over new positions. fresh: the cache was empty before."""

    cache: Cache
    places: Places
    cosines: Tensor  # [B or 1, Q, 1, 2, H]
    sines: Tensor
    hidden: Tensor | None  # [B * N, Q, L]: -inf where a position lies ahead
    fresh: bool


class Attention:
    """Causal attention over what the cache holds. RoPE is applied in place, queries come out of it scaled."""

    def __init__(self, number: int, module: Any, head_width: int) -> None:
        self.number, self.head_width = number, head_width
        self.qkv, self.proj = product_of(module.linear_qkv), product_of(module.linear_proj)
        self.prefix = prefix_of(module.core_attention)

    def __call__(self, x_RD: Tensor, run: Pass) -> Tensor:
        """[R, D] -> [R, D], of this rank's heads alone."""
        rows, width = len(run.places.starts), run.places.width
        qkv = self.qkv(x_RD).view(rows, width, -1, 3, self.head_width)
        qk = qkv[..., :2, :]
        turned = qk.roll(self.head_width // 2, -1)
        qk.mul_(run.cosines).addcmul_(turned, run.sines)
        q_BNQH, k_BNQH, v_BNQH = qkv.permute(3, 0, 2, 1, 4).unbind(0)
        run.cache.append(self.number, k_BNQH, v_BNQH, run.places)
        if run.fresh:
            out_BNQH = self._at_once(q_BNQH, k_BNQH, v_BNQH)
        else:
            out_BNQH = self._over_cache(q_BNQH, run)
        return self.proj(out_BNQH.transpose(1, 2).reshape(len(x_RD), -1))

    def _at_once(self, q_BNQH: Tensor, k_BNQH: Tensor, v_BNQH: Tensor) -> Tensor:
        """Over the positions themselves, behind the prefix: as in training, queries of zeros stand before the others."""
        count = 0
        if self.prefix is not None:
            before = [part.expand(len(q_BNQH), -1, -1, -1) for part in self.prefix]
            count = before[0].shape[2]
            pairs = zip((torch.zeros_like(before[0]), *before), (q_BNQH, k_BNQH, v_BNQH), strict=True)
            q_BNQH, k_BNQH, v_BNQH = (torch.cat(pair, dim=2) for pair in pairs)
        out = F.scaled_dot_product_attention(q_BNQH, k_BNQH, v_BNQH, is_causal=True, scale=1.0)
        return out[:, :, count:]

    def _over_cache(self, q_BNQH: Tensor, run: Pass) -> Tensor:
        """Three products over [B * N, ...]: for few queries faster than the fused kernel, on a CPU twice."""
        keys, values = run.cache.read(self.number, run.places.end)
        queries, keys = q_BNQH.reshape(-1, *q_BNQH.shape[2:]), keys.transpose(1, 2)
        scores = torch.bmm(queries, keys) if run.hidden is None else torch.baddbmm(run.hidden, queries, keys)
        return torch.bmm(scores.softmax(-1), values).view(q_BNQH.shape)


class FeedForward:
    """SwiGLU: of this rank's hidden features."""

    def __init__(self, module: Any) -> None:
        self.first = product_of(module.linear_fc1)  # gate, then up
        self.second = product_of(module.linear_fc2)

    def __call__(self, x_RD: Tensor) -> Tensor:
        """[R, D] -> [R, D]."""
        return self.second(gated(self.first(x_RD)))


class Mixture:
    """DeepSeek's experts: a softmax over all of them in fp32, the best K with their weights as they are.

    A tensor rank computes its share of the experts, whether it holds only those or all. All ranks have the shared
    experts' features among them.
    """

    def __init__(self, module: Any, ranks: TensorRanks) -> None:
        self.router: Tensor = module.router.weight
        self.chosen: int = module.router.topk
        experts, held = self.router.shape[0], module.experts.fc1.shape[0]
        self.first, end = experts * ranks.rank // ranks.size, experts * (ranks.rank + 1) // ranks.size
        self.alone = ranks.size == 1
        own = slice(None) if held < experts else slice(self.first, end)
        self.fc1: Tensor = module.experts.fc1[own]
        self.fc2: Tensor = module.experts.fc2[own]
        self.all = Matrix(self.fc1.flatten(0, 1))
        self.each = [(Matrix(fc1), Matrix(fc2)) for fc1, fc2 in zip(self.fc1, self.fc2, strict=True)]
        self.numbers = torch.arange(end - self.first, device=self.fc1.device)
        self.shared = None if module.shared_experts is None else FeedForward(module.shared_experts)

    def __call__(self, x_RD: Tensor) -> Tensor:
        """[R, D] -> [R, D], of this rank's experts alone."""
        scores = F.linear(x_RD.float(), self.router.float()).softmax(-1)
        weights_RK, experts_RK = scores.topk(self.chosen, dim=-1)
        if not self.alone:
            experts_RK = experts_RK - self.first
            absent = (experts_RK < 0) | (experts_RK >= len(self.numbers))
            weights_RK, experts_RK = weights_RK.masked_fill(absent, 0), experts_RK.masked_fill(absent, 0)
        routed = self._routed(x_RD, weights_RK, experts_RK)
        return routed if self.shared is None else routed.add_(self.shared(x_RD))

    def _routed(self, x_RD: Tensor, weights_RK: Tensor, experts_RK: Tensor) -> Tensor:
        """By what takes least where x is: on a CPU, for few rows, reading the matrices takes all the time."""
        if x_RD.device.type != "cpu":
            return self._grouped(x_RD, weights_RK, experts_RK)
        if len(x_RD) == 1:
            return self._of_one_row(x_RD, weights_RK[0], experts_RK[0].tolist())
        if self.fc1[0].numel() >= LARGE and experts_RK.numel() <= FEW * len(self.numbers):
            return self._of_chosen_experts(x_RD, weights_RK, experts_RK)
        if len(x_RD) <= FEW:
            return self._of_all_experts(x_RD, weights_RK, experts_RK)
        return self._grouped(x_RD, weights_RK, experts_RK)

    def _of_one_row(self, x_1D: Tensor, weights_K: Tensor, experts_K: list[int]) -> Tensor:
        """Reads the K experts where they lie: gathering them first, or asking for groups of no tokens, takes longer."""
        features = torch.cat([self.each[expert][0](x_1D) for expert in experts_K])
        active = (gated(features) * weights_K[:, None]).to(x_1D.dtype).split(1)
        parts = [self.each[expert][1](part) for part, expert in zip(active, experts_K, strict=True)]
        return torch.stack(parts).sum(0)

    def _of_all_experts(self, x_RD: Tensor, weights_RK: Tensor, experts_RK: Tensor) -> Tensor:
        """Every expert for every row, with weight zero where it was not chosen: small ones take less than a call each."""
        experts = len(self.numbers)
        weights_RE = weights_RK.new_zeros(len(x_RD), experts).scatter_add_(1, experts_RK, weights_RK)
        features_REF = self.all(x_RD).unflatten(1, (experts, -1))
        active_ERF = (
            (gated(features_REF) * weights_RE.unsqueeze(-1)).to(x_RD.dtype).transpose(0, 1).contiguous()
        )
        return torch.bmm(self.fc2, active_ERF.transpose(1, 2)).sum(0).t().contiguous()

    def _of_chosen_experts(self, x_RD: Tensor, weights_RK: Tensor, experts_RK: Tensor) -> Tensor:
        """Each expert that was chosen for its rows: what a call costs is little against reading its matrices."""
        experts_P, pairs_P = experts_RK.flatten().sort()
        rows_P = pairs_P // self.chosen
        used, counts = (found.tolist() for found in experts_P.unique_consecutive(return_counts=True))
        parts = zip(x_RD[rows_P].split(counts), used, strict=True)
        features = torch.cat([self.each[expert][0](part) for part, expert in parts])
        active = (gated(features) * weights_RK.flatten()[pairs_P, None]).to(x_RD.dtype)
        parts = zip(active.split(counts), used, strict=True)
        out = torch.cat([self.each[expert][1](part) for part, expert in parts])
        return torch.zeros_like(x_RD).index_add_(0, rows_P, out)

    def _grouped(self, x_RD: Tensor, weights_RK: Tensor, experts_RK: Tensor) -> Tensor:
        """Rows sorted by expert, one product for each expert that was chosen."""
        experts_P, pairs_P = experts_RK.flatten().sort()
        ends = torch.searchsorted(experts_P, self.numbers, right=True, out_int32=True)
        rows_P = pairs_P // self.chosen
        features = F.grouped_mm(x_RD[rows_P], self.fc1.transpose(1, 2), offs=ends)
        active = (gated(features) * weights_RK.flatten()[pairs_P, None]).to(x_RD.dtype)
        out = F.grouped_mm(active, self.fc2.transpose(1, 2), offs=ends)
        return torch.zeros_like(x_RD).index_add_(0, rows_P, out)


class Layer:
    """One layer: attention, then a feed-forward or a mixture of experts, each added to what it reads."""

    def __init__(self, number: int, module: Any, head_width: int, ranks: TensorRanks) -> None:
        self.ranks = ranks
        self.norm1, self.norm2 = Norm(module.input_layernorm), Norm(module.pre_mlp_layernorm)
        self.attention = Attention(number, module.self_attention, head_width)
        self.feed: Mixture | FeedForward = (
            Mixture(module.mlp, ranks) if hasattr(module.mlp, "router") else FeedForward(module.mlp)
        )
        self.adapter1, self.adapter2 = (getattr(module, name, _as_it_is) for name in ADAPTERS)

    def __call__(self, x_RD: Tensor, run: Pass) -> Tensor:
        """[R, D] -> [R, D]."""
        x_RD = self.adapter1(self.ranks.total(self.attention(self.norm1(x_RD), run))).add_(x_RD)
        return self.adapter2(self.ranks.total(self.feed(self.norm2(x_RD)))).add_(x_RD)


def _as_it_is(x: Tensor) -> Tensor:
    return x


def gated(gate_and_up: Tensor) -> Tensor:
    """[..., 2 * F] -> [..., F]: silu(gate) * up."""
    gate, up = gate_and_up.chunk(2, dim=-1)
    return F.silu(gate).mul_(up)
