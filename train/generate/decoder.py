"""The language model for reading: the trained decoder's own parameters in few, large operations, with a cache.

What megatron-core's training forward computes (tests/train/generate/test_decoder.py holds them together), without its
modules around every operation: for a few pages these cost several times the arithmetic. Tensor ranks hold their heads,
hidden features, experts and vocabulary as in training; their parts are added up twice a layer.

Shapes: B rows, Q new positions of each, R = B * Q, L positions of a prompt, D width, H head width, T vocabulary.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from megatron.core import parallel_state
from torch import Tensor

from data_pipeline.errors import UserError
from parallel.cpu_settings import products_of_any_shape
from train.generate.cache import Cache
from train.generate.layers import Layer, Matrix, Norm, Pass, TensorRanks
from train.model.optical import OpticalModel


class TextDecoder:
    """Ids in, logits out, for rows of at most `length` positions; keys and values stay in a `Cache`.

    Uses the model's parameters themselves, not copies of them (but for the norms' scales, in fp32). Raises UserError for a model that pipeline stages share,
    or whose experts are shared out over other ranks than its matrices.
    """

    def __init__(self, model: OpticalModel, length: int) -> None:
        require_whole_layers()
        size = parallel_state.get_tensor_model_parallel_world_size()
        self.ranks = TensorRanks(parallel_state.get_tensor_model_parallel_group() if size > 1 else None)
        decoder, config = model.decoder, model.config
        self.length, self.head_width = length, config.kv_channels
        self.heads = config.num_attention_heads // size
        self.embedding: Tensor = decoder.embedding.word_embeddings.weight
        self.layers = [
            Layer(number, layer, self.head_width, self.ranks) for number, layer in enumerate(decoder.layers)
        ]
        self.norm = Norm(decoder.decoder.final_layernorm)
        self.output = Matrix(decoder.output_layer.weight)
        self.turns = self._turns(decoder.rotary_pos_emb.inv_freq.to(self.embedding.device))

    def cache(self, rows: int, kept_as: str = "auto") -> Cache:
        """A cache that holds nothing but prefixes. kept_as: `Decoding.cache`."""
        like = self.embedding
        prefixes = [layer.attention.prefix for layer in self.layers if layer.attention.prefix is not None]
        return Cache(
            len(self.layers), rows, self.heads, self.length, self.head_width, like.dtype, like.device, kept_as,
            prefixes,
        )  # fmt: skip

    @torch.inference_mode()
    def prefill(self, embedded_LBD: Tensor, lengths: Sequence[int], cache: Cache) -> Tensor:
        """Reads rows of `lengths` positions, padded behind, into an empty cache; logits after each, [B, 1, T]."""
        x_BLD = self._through(embedded_LBD.transpose(0, 1), cache, fresh=True)
        cache.truncate(lengths)
        last = torch.tensor(lengths, device=x_BLD.device) - 1
        return self._logits(x_BLD[torch.arange(len(lengths), device=x_BLD.device), last])[:, None]

    @torch.inference_mode()
    def step(self, tokens_BQ: Tensor, cache: Cache) -> Tensor:
        """Reads Q more ids of each row, int64; logits after every one, [B, Q, T]."""
        with products_of_any_shape():  # each step reads more positions than the one before
            x_BQD = self._through(self._embedded(tokens_BQ), cache, fresh=False)
            return self._logits(x_BQD.flatten(0, 1)).unflatten(0, tokens_BQ.shape)

    def _turns(self, frequencies: Tensor) -> Tensor:
        """RoPE's cosines and signed sines, [2, length, 1, 2, H]; the last but one axis is queries, which are scaled here
        once and for all, and keys.
        """
        angles = torch.outer(torch.arange(self.length, device=frequencies.device).float(), frequencies)
        cosines, sines = angles.cos(), angles.sin()
        tables = torch.stack([torch.cat([cosines, cosines], -1), torch.cat([-sines, sines], -1)])
        scales = tables.new_tensor([self.head_width**-0.5, 1.0])
        return (tables[:, :, None, None] * scales[:, None]).to(self.embedding.dtype)

    def _through(self, x_BQD: Tensor, cache: Cache, fresh: bool) -> Tensor:
        """All layers, over the positions that follow those in the cache."""
        places = cache.next_places(x_BQD.shape[1])
        positions = places.positions - cache.before  # a prefix takes none
        cosines, sines = self.turns[0][positions], self.turns[1][positions]
        hidden = None if fresh else places.hidden(x_BQD.dtype, self.heads)
        run = Pass(cache, places, cosines, sines, hidden, fresh)
        x_RD = x_BQD.flatten(0, 1)
        for layer in self.layers:
            x_RD = layer(x_RD, run)
        return x_RD.view(x_BQD.shape)

    def _embedded(self, tokens_BQ: Tensor) -> Tensor:
        if self.ranks.size == 1:
            return F.embedding(tokens_BQ, self.embedding)
        share = self.embedding.shape[0]
        own = tokens_BQ - self.ranks.rank * share
        absent = (own < 0) | (own >= share)
        rows = F.embedding(own.masked_fill(absent, 0), self.embedding)
        return self.ranks.total(rows.masked_fill_(absent[..., None], 0))

    def _logits(self, x_RD: Tensor) -> Tensor:
        return self.ranks.joined(self.output(self.norm(x_RD)))


def require_whole_layers() -> None:
    pipeline = parallel_state.get_pipeline_model_parallel_world_size()
    if pipeline > 1:
        raise UserError(
            f"parallel.pipeline={pipeline}: pages are read by whole models or by tensor ranks; a checkpoint fits any "
            "layout, so read with parallel.pipeline=1"
        )
    tensor = parallel_state.get_tensor_model_parallel_world_size()
    expert = parallel_state.get_expert_model_parallel_world_size()
    if expert not in (1, tensor):
        raise UserError(
            f"parallel.expert={expert} with parallel.tensor={tensor}: to read pages, tensor ranks share the experts or "
            f"each holds all; read with parallel.expert=1 or parallel.expert={tensor}"
        )
