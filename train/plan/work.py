"""FLOPs of the whole model by what a step holds, of the pieces that a plan records: views by their size, positions, labels.

`python -m train.plan.work FOLDER/config.yaml` prints them as JSON: a run on GPUs starts it beside itself to know its MFU, for a
process with process groups cannot plan.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from train.config import Config, ParallelConfig

_LENGTHS = (256, 512)  # positions at which layers are recorded


@dataclass(frozen=True)
class Prices:
    """FLOPs, forward and backward, nothing twice and causal attention halved.

    positions, pairs: of a sample of n positions, n times and n * n times. labels: of a position with a label. views: of a view by
    its pixels a side.
    """

    positions: float
    pairs: float
    labels: float
    views: Mapping[int, float]

    def flops(self, positions: float, pairs: float, labels: float, views: Mapping[int, float]) -> float:
        """Of a step that holds so many."""
        pages = sum(count * self.views[size] for size, count in views.items())
        return self.positions * positions + self.pairs * pairs + self.labels * labels + pages

    @classmethod
    def from_json(cls, text: str) -> "Prices":
        """The inverse of what `main` prints."""
        content = json.loads(text)
        views = {int(size): price for size, price in content.pop("views").items()}
        return cls(views=views, **content)


def view_sizes(config: Config) -> list[int]:
    """Pixels a side of the views that pages may become, ascending."""
    from data_pipeline.resolution import mode_of

    return sorted({size for mode in config.data.modes for size in mode_of(mode).sizes})


def prices(config: Config) -> Prices:
    """Of `config`'s model, with the weights that its stage trains. The process must have no process groups."""
    from train.plan.pieces import DENSE, EMBEDDING, EXPERTS, HEAD, WINDOW

    decoder = config.model.decoder
    layers = {DENSE: decoder.dense_layers, EXPERTS: decoder.layers - decoder.dense_layers}
    short, long = _LENGTHS
    few, many = (
        sum(count * _flops(config, name, length) for name, count in layers.items() if count) for length in _LENGTHS
    )
    pairs = (many / long - few / short) / (long - short)
    views = {
        size: sum(_flops(config, name, long, size) for name in (WINDOW, EMBEDDING)) for size in view_sizes(config)
    }
    return Prices(few / short - pairs * short, pairs, _flops(config, HEAD, long) / long, views)


def _flops(config: Config, name: str, length: int, size: int | None = None) -> float:
    """Of one piece, for one row of so many positions with one view."""
    from train.plan.config import DeviceConfig
    from train.plan.layout import own_flops
    from train.plan.pieces import Pieces

    size = size or view_sizes(config)[0]
    data = replace(config.data, modes=[str(size)], max_length=length, pack=False)
    cost = Pieces(replace(config, data=data), DeviceConfig(fused_bias=True)).piece(name, ParallelConfig(), "none", 1).cost
    return own_flops(cost.forward) + own_flops(cost.backward)


def main(path: str) -> None:
    """Prints the prices of a run's configuration."""
    os.nice(19)
    from train.find_run import read_config

    print(json.dumps(asdict(prices(read_config(Path(path))))))


if __name__ == "__main__":
    main(sys.argv[1])
