"""What real pages do in a model: how strong each unit's output is, how far a layer turns what it reads, what a matrix reads.

    heads, hidden features   root mean square of what the unit adds to the stream, over positions (its output times the columns
                             of the matrix that reads it)
    experts                  mean over positions of routing weight x length of the expert's output, zero where not chosen
    layers                   1 - mean cosine of what a layer reads and what it gives (block influence of ShortGPT, arXiv 2403.03853)
    decoder's width          mean square of the feature behind the norms (Minitron, arXiv 2407.14679), and before each

Shapes: L length, B rows, P positions that are no padding, F features, N heads, H head width.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from data_pipeline.batch import MicroBatch
from parallel.device import device
from parallel.layers.activations import swiglu
from train.config import ModelConfig
from train.model.optical import OpticalModel
from train.surgery.importance import Importance
from train.surgery.units import DECODER, FINAL_NORM, GLOBAL, NORMS, WINDOW, Units, Weights, units_of

WHOLE = ":whole"  # behind a matrix's key: the products of all its inputs


class Recorder:
    """Sums over the positions of all batches, by name; `mean` of each. Encoder positions all count, the decoder's where there
    is a token.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = defaultdict(int)
        self.valid_LB: Tensor | None = None

    def add(self, name: str, values: Tensor, positions: int) -> None:
        """`values`, a sum over `positions`."""
        here = values.double().cpu()
        self.sums[name] = self.sums[name] + here if name in self.sums else here
        self.counts[name] += positions

    def mean(self, name: str) -> Tensor:
        """Per position. Raises KeyError for what was never seen."""
        return self.sums[name] / self.counts[name]

    def products(self) -> dict[str, Tensor]:
        """Key of a matrix → mean of x xᵀ over its inputs x, of those that were looked at as a whole."""
        names = [name for name in self.sums if name.endswith(WHOLE)]
        return {name.removesuffix(WHOLE): self.mean(name)[0] for name in names}

    def positions(self, x: Tensor, decodes: bool) -> Tensor:
        """[L, B, F] without padding, or any encoder's tensor: [P, F]."""
        if not decodes:
            return x.flatten(0, -2)
        assert self.valid_LB is not None
        return x[self.valid_LB]


def look(model: OpticalModel, batches: Sequence[MicroBatch], whole: Sequence[str] = ()) -> Recorder:
    """Sends the batches through the model, in evaluation mode, and records what units do; or, where given, what the matrices
    read whose keys end as in `whole`, in a decoder's layer.
    """
    recorder = Recorder()
    handles = (
        list(_whole(model, whole, recorder))
        if whole
        else [*_decoder(model, recorder), *_encoder(model, recorder)]
    )
    try:
        with torch.no_grad():
            for batch in batches:
                there = batch.to(device())
                recorder.valid_LB = ~there.padding.t()
                model(there, with_nats=True)
    finally:
        for handle in handles:
            handle.remove()
    return recorder


def _decoder(model: Any, recorder: Recorder) -> list[RemovableHandle]:
    heads = model.config.num_attention_heads
    handles = [_norm(model.decoder.decoder.final_layernorm, FINAL_NORM, recorder)]
    for number, layer in enumerate(model.decoder.layers):
        prefix, attention, mlp = f"{DECODER}{number}.", layer.self_attention, layer.mlp
        handles += [
            _turning(layer, f"{DECODER}{number}", recorder, decodes=True),
            _norm(layer.input_layernorm, prefix + NORMS[0], recorder),
            _norm(layer.pre_mlp_layernorm, prefix + NORMS[1], recorder),
            _read(attention.linear_proj, f"{prefix}self_attention.linear_proj.weight", recorder, heads),
        ]
        dense, place = (mlp, "") if hasattr(mlp, "linear_fc2") else (mlp.shared_experts, "shared_experts.")
        if dense is not None:
            features = dense.linear_fc2.weight.shape[1]
            handles.append(
                _read(dense.linear_fc2, f"{prefix}mlp.{place}linear_fc2.weight", recorder, features)
            )
        if hasattr(mlp, "experts"):
            handles.append(_routed(mlp.experts, f"{prefix}mlp.", recorder))
    return handles


def _encoder(model: Any, recorder: Recorder) -> list[RemovableHandle]:
    handles: list[RemovableHandle] = []
    if not hasattr(model.encoder, "window"):
        return handles  # a baseline over texts
    blocks = (
        (WINDOW, model.encoder.window.blocks, "lin2"),
        (GLOBAL, model.encoder.get_submodule("global").layers, "fc2"),
    )
    for prefix, branch, last in blocks:
        for number, block in enumerate(branch):
            second, proj = getattr(block, last), block.attn.proj
            handles += [
                _turning(block, f"{prefix}{number}", recorder, decodes=False),
                _read(
                    proj,
                    f"{prefix}{number}.attn.proj.weight",
                    recorder,
                    proj.weight.shape[1] // block.attn.head_width,
                    False,
                ),
                _read(second, f"{prefix}{number}.{last}.weight", recorder, second.weight.shape[1], False),
            ]
    return handles


def _read(module: Any, name: str, recorder: Recorder, units: int, decodes: bool = True) -> RemovableHandle:
    """Of what a matrix reads: the products of the inputs from each of its `units` with each other, [N, H, H]."""

    def before(_: Any, args: tuple[Any, ...]) -> None:
        x_PF = recorder.positions(args[0], decodes).float()
        x_NPH = x_PF.unflatten(1, (units, -1)).transpose(0, 1)
        recorder.add(name, x_NPH.transpose(1, 2) @ x_NPH, len(x_PF))

    return module.register_forward_pre_hook(before)


def _whole(model: Any, ends: Sequence[str], recorder: Recorder) -> Iterator[RemovableHandle]:
    """The same over all inputs of the matrices whose keys end so."""
    for number, layer in enumerate(model.decoder.layers):
        modules = dict(layer.named_modules())
        for end in ends:
            module = modules.get(end.removesuffix(".weight"))
            if module is not None:
                yield _read(module, f"{DECODER}{number}.{end}{WHOLE}", recorder, 1)


def _norm(module: Any, key: str, recorder: Recorder) -> RemovableHandle:
    """The square of each feature before and behind a norm."""

    def after(_: Any, args: tuple[Any, ...], out: Tensor) -> None:
        for name, x in ((key, args[0]), (f"{key}:behind", out)):
            x_PF = recorder.positions(x, True).float()
            recorder.add(name, x_PF.square().sum(0), len(x_PF))

    return module.register_forward_hook(after)


def _turning(module: Any, name: str, recorder: Recorder, decodes: bool) -> RemovableHandle:
    """The cosine of what a layer reads and what it gives."""

    def after(_: Any, args: tuple[Any, ...], options: dict[str, Any], out: Any) -> None:
        read = args[0] if args else options["hidden_states"]
        pairs = zip(read, out, strict=True) if isinstance(read, (list, tuple)) else [(read, out[0])]
        for one, other in pairs:
            x_PF, y_PF = recorder.positions(one, decodes).float(), recorder.positions(other, decodes).float()
            recorder.add(name, F.cosine_similarity(x_PF, y_PF, dim=-1).sum(), len(x_PF))

    return module.register_forward_hook(after, with_kwargs=True)


def _routed(module: Any, prefix: str, recorder: Recorder) -> RemovableHandle:
    """Of each expert: the length of what it adds, and the square of each of its weighed features [E, F]."""

    def before(_: Any, args: tuple[Any, ...]) -> None:
        hidden_TD, counts_E, probs_R, places_R = args
        assert recorder.valid_LB is not None
        valid_R = recorder.valid_LB.flatten()[places_R]
        rows = hidden_TD[places_R] * valid_R.unsqueeze(-1)
        weights = probs_R.unsqueeze(-1) * valid_R.unsqueeze(-1)
        lengths, features = [], []
        sizes = counts_E.tolist()
        for expert, (own, share) in enumerate(zip(rows.split(sizes), weights.split(sizes), strict=True)):
            active = swiglu(own @ module.fc1[expert].t()).float() * share
            lengths.append((active @ module.fc2[expert].t().float()).norm(dim=-1).sum())
            features.append(active.square().sum(0))
        positions = int(recorder.valid_LB.sum())
        recorder.add(f"{prefix}experts", torch.stack(lengths), positions)
        recorder.add(f"{prefix}experts:features", torch.stack(features), positions)

    return module.register_forward_pre_hook(before)


def importance_of(model: ModelConfig, weights: Weights, seen: Recorder) -> Importance:
    """The scores that what was seen gives to all units of `model`."""
    found = Importance()
    for kind in ("heads", "ffn", "shared", "window_heads", "window_mlp", "global_heads", "global_mlp"):
        found.units[kind] = {
            layer: _added(units, weights, seen) for layer, units in units_of(model, kind).items()
        }
    sparse = units_of(model, "experts")
    found.units["experts"] = {layer: seen.mean(f"{DECODER}{layer}.mlp.experts") for layer in sparse}
    found.units["expert_ffn"] = {
        layer: (
            seen.mean(f"{DECODER}{layer}.mlp.experts:features")
            * weights[units.read[0].key].double().square().sum(1)
        ).sqrt()
        for layer, units in units_of(model, "expert_ffn").items()
    }
    decoder, encoder = model.decoder, model.encoder
    depths = {"layers": (DECODER, decoder.layers), "window_depth": (WINDOW, encoder.window_depth),
              "global_depth": (GLOBAL, encoder.global_depth)}  # fmt: skip
    for name, (prefix, count) in depths.items():
        if f"{prefix}0" in seen.sums:
            found.layers[name] = torch.stack([1 - seen.mean(f"{prefix}{number}") for number in range(count)])
    norms = [name for name in seen.sums if f"{name}:behind" in seen.sums]
    found.power = {norm: seen.mean(norm) for norm in norms}
    found.width = torch.stack([seen.mean(f"{norm}:behind") for norm in norms]).sum(0)
    return found


def _added(units: Units, weights: Weights, seen: Recorder) -> Tensor:
    """Root mean square length of what each unit adds: of W x with the unit's columns of W, from the mean of x xᵀ."""
    (axis,) = units.read
    columns_NOH = weights[axis.key].double().unflatten(1, (-1, axis.inner)).transpose(0, 1)
    products_NHH = seen.mean(axis.key)
    return ((columns_NOH.transpose(1, 2) @ columns_NOH) * products_NHH).sum((1, 2)).clamp(min=0).sqrt()
