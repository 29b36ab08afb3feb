"""Names that hold in every layout: a parameter's name in the whole model, whichever piece of it is here."""

import torch
from torch.nn import Parameter

from parallel.layers import chunks_of
from train.model.optical import OpticalModel

LAYERS = "decoder.decoder.layers."


def whole_names(module: torch.nn.Module) -> dict[str, Parameter]:
    """The parameters of a model, or of the pieces on this rank, by the names they have in the whole model.

    A stage numbers its layers from 0; here they have their numbers in the model. The output layer's copy of a
    tied embedding has the embedding's name.
    """
    return {
        whole_name(piece, name): parameter
        for piece in chunks_of(module)
        for name, parameter in piece.named_parameters()
    }


def whole_name(piece: torch.nn.Module, name: str) -> str:
    """The name in the whole model of what is `name` in a piece of it."""
    if not isinstance(piece, OpticalModel):
        return name
    if name.startswith(LAYERS):
        number, rest = name.removeprefix(LAYERS).split(".", 1)
        return f"{LAYERS}{int(number) + piece.part.first_layer}.{rest}"
    if piece.share_embeddings_and_output_weights and name == "decoder.output_layer.weight":
        return "decoder.embedding.word_embeddings.weight"
    return name
