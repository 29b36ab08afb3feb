"""What each of two tensor-parallel ranks does for `test_tensor_reading`. Torch is imported inside: the ranks import this
file before their environment is complete.
"""

import os
from collections.abc import Sequence
from typing import Any

# sizes, decoder, decoding, pages
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], int]] = {
    "experts on every rank": ({}, {}, {}, 3),
    "experts shared out": ({"expert": 2}, {}, {}, 3),
    "one page, whole sequences": ({"sequence": False}, {"dense_layers": 3}, {}, 1),
    "one page, experts shared out": ({"expert": 2}, {"tied_embeddings": True, "shared_experts": 0}, {}, 1),
    "looked up": ({"expert": 2}, {}, {"speculate": "lookup", "no_repeat": True, "cache": "int8"}, 3),
    "drafted": ({}, {}, {"speculate": "draft", "temperature": 0.8}, 3),
}


def play(tensor: int, ports: Sequence[int]) -> dict[str, Any]:
    """Texts of every case, on as many ranks as `tensor`; the worlds that follow each other meet at `ports`."""
    from parallel import topology

    found = {}
    for experts, port in zip((1, 2) if tensor > 1 else (1,), ports):
        os.environ["MASTER_PORT"] = str(port)
        topology.start(topology.Topology(tensor=tensor, expert=experts), seed=0)
        for case, (sizes, *_) in CASES.items():
            if tensor == 1 or sizes.get("expert", 1) == experts:
                found[case] = text(case, tensor)
        topology.stop()
    return found


def text(case: str, tensor: int) -> list[list[int]]:
    """24 ids of each page; pages differ in length."""
    from tests.train.generate.reading_model import TILED, batch_of, endless, joined, reading_model
    from train.config import ParallelConfig
    from train.generate.decoding import decode
    from train.generate.options import Decoding, NoRepeat

    sizes, decoder, options, count = CASES[case]
    parallel = ParallelConfig(tensor=tensor, **sizes) if tensor > 1 else ParallelConfig()
    model = reading_model(1, parallel, **decoder)
    draft = reading_model(2, parallel, layers=2) if options.get("speculate") == "draft" else None
    if "no_repeat" in options:
        options = options | {"no_repeat": NoRepeat(3, 12)}
    decoding = Decoding(24, **options)
    return joined(list(decode(model, batch_of(count, TILED), endless(), decoding, draft)))
