"""What each of two tensor-parallel ranks does for `test_tensor_reading`. Torch is imported inside: the ranks import this
file before their environment is complete.
"""

from typing import Any

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {  # sizes, decoder, decoding
    "experts on every rank": ({}, {}, {}),
    "experts shared out": ({"expert": 2}, {}, {}),
    "whole sequences": ({"sequence": False}, {"dense_layers": 3}, {}),
    "tied embeddings": ({}, {"tied_embeddings": True}, {}),
    "no shared expert": ({"expert": 2}, {"shared_experts": 0}, {}),
    "looked up": ({"expert": 2}, {}, {"speculate": "lookup", "no_repeat": True}),
    "drafted": ({}, {}, {"speculate": "draft"}),
    "drawn": ({"expert": 2}, {}, {"temperature": 0.8}),
    "int8": ({}, {}, {"cache": "int8"}),
}


def play(tensor: int = 2) -> dict[str, Any]:
    """Texts of every case, on as many ranks as `tensor`."""
    from parallel import topology

    found = {}
    for experts in (1, 2) if tensor > 1 else (1,):
        topology.start(topology.Topology(tensor=tensor, expert=experts), seed=0)
        for case, (sizes, _, _) in CASES.items():
            if tensor == 1 or sizes.get("expert", 1) == experts:
                found[case] = [text(case, count, tensor) for count in (1, 6)]
        topology.stop()
    return found


def text(case: str, count: int, tensor: int) -> list[list[int]]:
    """40 ids of each of `count` pages of different lengths."""
    from tests.train.generate.reading_model import TILED, batch_of, endless, joined, reading_model
    from train.config import ParallelConfig
    from train.generate.decoding import decode
    from train.generate.options import Decoding, NoRepeat

    sizes, decoder, options = CASES[case]
    parallel = ParallelConfig(tensor=tensor, **sizes) if tensor > 1 else ParallelConfig()
    model = reading_model(1, parallel, **decoder)
    draft = reading_model(2, parallel, layers=2) if options.get("speculate") == "draft" else None
    if "no_repeat" in options:
        options = options | {"no_repeat": NoRepeat(3, 12)}
    decoding = Decoding(40, **options)
    return joined(list(decode(model, batch_of(count, TILED), endless(), decoding, draft)))
