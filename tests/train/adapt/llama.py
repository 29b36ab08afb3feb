"""A tiny Llama of transformers, and our model with the same weights: what peft's tuners are compared on."""

from dataclasses import replace
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from data_pipeline.batch import BatchSpec, Collator, MicroBatch
from data_pipeline.tokenizer import byte_tokenizer
from tests.packed_samples import record
from tests.train.model.small_model import small_model
from train.adapt.attach import add
from train.config import Config, ModelConfig, TuneConfig
from train.model.optical import OpticalModel, build

TEXTS = ("a text of some length", "another one", "and the longest of the three texts here")
ROW = 120


def model_config() -> ModelConfig:
    """Our decoder where it is a Llama: no experts."""
    small = small_model()
    decoder = replace(small.decoder, dense_layers=small.decoder.layers, vocab_size=272)
    return replace(small, decoder=decoder, glyph_heads=False)


def their_model() -> LlamaForCausalLM:
    """Random weights, the same in every call."""
    sizes = model_config().decoder
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=sizes.vocab_size, hidden_size=sizes.width, intermediate_size=sizes.ffn,
        num_hidden_layers=sizes.layers, num_attention_heads=sizes.heads, rms_norm_eps=sizes.norm_eps,
        max_position_embeddings=sizes.max_length, initializer_range=0.1,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def our_model(theirs: LlamaForCausalLM, tune: TuneConfig) -> OpticalModel:
    """With their weights, and what `tune` adds."""
    model = build(model_config(), byte_tokenizer().image, seed=1)
    assert isinstance(model, OpticalModel)
    heads = model_config().decoder.heads
    with torch.no_grad():
        for ours, layer in zip(model.decoder.layers, theirs.model.layers, strict=True):
            attention = layer.self_attn
            parts = (attention.q_proj, attention.k_proj, attention.v_proj)
            by_head = torch.stack([part.weight.unflatten(0, (heads, -1)) for part in parts], 1)
            ours.self_attention.linear_qkv.weight.copy_(by_head.flatten(0, 2))
            ours.self_attention.linear_proj.weight.copy_(attention.o_proj.weight)
            ours.mlp.linear_fc1.weight.copy_(
                torch.cat([layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight])
            )
            ours.mlp.linear_fc2.weight.copy_(layer.mlp.down_proj.weight)
            ours.input_layernorm.weight.copy_(layer.input_layernorm.weight)
            ours.pre_mlp_layernorm.weight.copy_(layer.post_attention_layernorm.weight)
        model.decoder.embedding.word_embeddings.weight.copy_(theirs.model.embed_tokens.weight)
        model.decoder.decoder.final_layernorm.weight.copy_(theirs.model.norm.weight)
        model.decoder.output_layer.weight.copy_(theirs.lm_head.weight)
    add(Config(model=model_config(), tune=tune), model)
    return model


def batch(reserved: int) -> MicroBatch:
    """The texts in one row."""
    collator = Collator(byte_tokenizer(), BatchSpec(("128",), 8, ROW, reserved=reserved))
    samples = [collator.sample(record(f"text {number}", 0, text)) for number, text in enumerate(TEXTS)]
    return collator.packed([samples], [["text"] * len(samples)])


def our_loss(model: OpticalModel, reserved: int) -> torch.Tensor:
    """Nats of all texts, which share a row."""
    nats = model(batch(reserved), with_nats=True).nats
    assert nats is not None
    return nats


def their_loss(model: Any) -> torch.Tensor:
    """Nats of all texts, one after the other, as transformers counts them."""
    collator = Collator(byte_tokenizer(), BatchSpec(("128",), 8, ROW))
    total = torch.zeros(())
    for text in TEXTS:
        ids = torch.tensor([collator.sample(record("text", 0, text)).ids])
        labels = ids.clone()
        labels[:, 0] = -100
        total = total + model(input_ids=ids, labels=labels).loss * (ids.numel() - 1)
    return total
