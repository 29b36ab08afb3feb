"""What each of two tensor-parallel ranks does for `test_parity_tensor`. Torch is imported inside: the ranks import this
file before their environment is complete.
"""

from typing import Any


def play(run: str, batches: list[Any]) -> tuple[list[Any], list[Any]]:
    """Logits of each batch (all positions that are not padding), and pieces of the gradient of the first one's loss."""
    from pathlib import Path

    from parallel import topology

    topology.start(topology.Topology(tensor=2), seed=0)
    try:
        return forward_and_backward(Path(run), batches)
    finally:
        topology.stop()


def forward_and_backward(run: Any, batches: list[Any]) -> tuple[list[Any], list[Any]]:
    """`play`, where process groups exist."""
    from megatron.core.tensor_parallel import gather_from_tensor_model_parallel_region as gathered

    from tests.train.model.peer_model import from_run, loss_of
    from tests.train.model.small_model import gradient_pieces
    from train.config import ParallelConfig

    ours = from_run(run, ParallelConfig(tensor=2))
    logits = [gathered(ours(batch).logits)[~batch.padding] for batch in batches]
    loss_of(logits[0], batches[0]).backward()
    return [each.detach().numpy() for each in logits], list(gradient_pieces(ours))
