"""Which parameters are stepped together."""

from typing import Any

from torch import nn

HIDDEN = "hidden"  # marks a group of hidden matrices; the engine gives groups of experts other names
# Parts of names of matrices that are no layer's: what is looked up, what tells positions, and what gives the answer.
_NOT_HIDDEN = ("embed", "rel_pos_", "position", "output_layer", "glyph_heads", "prompt.rows", ".table")


def parameter_groups(
    module: nn.Module, weight_decay: float, hidden_apart: bool = False
) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices and kernels decay; norms, biases and single vectors do not, nor does
    what says so by `parameter.decays = False` (DoRA's magnitudes).

    hidden_apart: matrices of hidden layers, each expert's too, make a third group, "matrices", which decays.
    """
    trainable = [
        (name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad
    ]
    names = ("matrices", "decayed", "undecayed")
    groups: dict[str, dict[str, Any]] = {
        name: {"name": name, "params": [], "weight_decay": weight_decay, "lr_scale": 1.0} for name in names
    }
    groups["undecayed"]["weight_decay"] = 0.0
    groups["matrices"][HIDDEN] = True
    for name, parameter in trainable:
        if not getattr(parameter, "decays", parameter.ndim > 1):
            kind = "undecayed"
        else:
            kind = "matrices" if hidden_apart and is_hidden_matrix(name, parameter) else "decayed"
        groups[kind]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter is a matrix of a hidden layer, or a stack of experts' such matrices: those that Muon and GaLore
    are made for."""
    is_matrix = parameter.ndim == 2 or (parameter.ndim == 3 and ".experts." in name)
    return is_matrix and not any(part in name for part in _NOT_HIDDEN)
