"""Which part of the model each pipeline stage holds.

The model is a chain, cut between its links:

    windowed branch, compressor | global branch, projector, token embedding | decoder layers | final norm, logits

Pieces are numbered in the order in which a micro-batch passes them. A pipeline rank holds one, or with
`parallel.virtual` v > 1 holds v: piece c * pipeline + p is the c-th of rank p. Loads no torch: a placement is
refused before anything starts.
"""

from dataclasses import dataclass

from conf.errors import ConfigError
from train.config import ParallelConfig


@dataclass(frozen=True)
class Part:
    """What one piece holds: links of the chain, and a range of decoder layers."""

    window: bool = True  # windowed branch and compressor
    embedding: bool = True  # global branch, projector, newline, separator, token embedding
    first_layer: int = 0
    layers: int = 0
    head: bool = True  # final norm and output layer

    @property
    def decodes(self) -> bool:
        """Whether something of the language model is here."""
        return self.embedding or self.layers > 0 or self.head


def parts(sizes: ParallelConfig, layers: int) -> list[Part]:
    """The pieces in model order, pipeline * virtual of them, for a decoder of `layers` layers.

    Raises ConfigError, with the override to choose, for what cannot be placed.
    """
    _check_stages(sizes)
    counts = [0] * sizes.encoder_stages + _layers_of_holders(sizes, layers)
    found = [
        Part(
            window=index == 0,
            embedding=index == embedding_stage(sizes),
            first_layer=sum(counts[:index]),
            layers=count,
            head=index == len(counts) - 1,
        )
        for index, count in enumerate(counts)
    ]
    for index, part in enumerate(found):
        if not (part.window or part.decodes):
            raise ConfigError(
                f"parallel.pipeline={sizes.pipeline} parallel.virtual={sizes.virtual}: piece {index} of {len(found)} "
                f"would hold nothing, the decoder having {layers} layers. Choose fewer stages, or "
                f"parallel.decoder_layers=[...] with a layer for each."
            )
    return found


def of_rank(sizes: ParallelConfig, layers: int, rank: int) -> list[Part]:
    """The pieces of pipeline rank `rank`, in model order."""
    return parts(sizes, layers)[rank :: sizes.pipeline]


def embedding_stage(sizes: ParallelConfig) -> int:
    """The pipeline stage that embeds tokens and puts the vision tokens among them."""
    return 1 if sizes.encoder_stages == 2 else 0


def even(layers: int, holders: int) -> list[int]:
    """`layers` over `holders`, as even as can be; the remainder on the later ones, as the first carries the encoder."""
    least, more = divmod(layers, holders)
    return [least] * (holders - more) + [least + 1] * more


def _check_stages(sizes: ParallelConfig) -> None:
    pipeline, virtual, own = sizes.pipeline, sizes.virtual, sizes.encoder_stages
    for name, size in (("pipeline", pipeline), ("virtual", virtual)):
        if size < 1:
            raise ConfigError(f"parallel.{name}={size}: choose parallel.{name}=1 or more.")
    if own not in (0, 1, 2):
        raise ConfigError(f"parallel.encoder_stages={own}: choose 0, 1 or 2 stages of the encoder's own.")
    if own and own >= pipeline:
        raise ConfigError(
            f"parallel.encoder_stages={own} leaves none of parallel.pipeline={pipeline} stages to the decoder: "
            f"choose parallel.pipeline={own + 1} or more, or parallel.encoder_stages={pipeline - 1}."
        )
    if virtual > 1 and pipeline == 1:
        raise ConfigError(
            f"parallel.virtual={virtual} cuts the stages of a pipeline, and parallel.pipeline=1 is none: choose "
            "parallel.virtual=1, or parallel.pipeline=2 or more."
        )
    if virtual > 1 and own:
        raise ConfigError(
            f"parallel.virtual={virtual} needs a stage that shares encoder and layers: choose parallel.encoder_stages=0, "
            "or parallel.virtual=1."
        )


def _layers_of_holders(sizes: ParallelConfig, layers: int) -> list[int]:
    """Layers of each piece that may hold some, in model order."""
    holders, counts = sizes.pipeline * sizes.virtual - sizes.encoder_stages, list(sizes.decoder_layers)
    suggestion = even(layers, holders)
    if not counts:
        return suggestion
    if len(counts) != holders or sum(counts) != layers or min(counts) < 0:
        raise ConfigError(
            f"parallel.decoder_layers={counts}: give {holders} numbers, one for each "
            f"{'chunk' if sizes.virtual > 1 else 'stage'} that holds layers, that add up to "
            f"model.decoder.layers={layers}. For example: parallel.decoder_layers={suggestion}."
        )
    return counts
