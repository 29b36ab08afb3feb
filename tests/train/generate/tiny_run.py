"""A run folder with a tiny random model whose texts depend on the page, for tests that read with a checkpoint."""

from dataclasses import replace
from pathlib import Path

from train.config import Config, DecoderConfig, EncoderConfig, ModelConfig

TINY = replace(
    ModelConfig(),
    encoder=EncoderConfig(
        image_size=64, patch=8, window_width=16, window_depth=1, window_heads=2, window_size=4, global_layers=[],
        window_mlp=16, neck_width=8, compressor_widths=[16, 16], global_depth=1, global_heads=2, global_mlp=16,
    ),
    decoder=DecoderConfig(
        layers=2, width=32, heads=2, ffn=32, dense_layers=1, experts=4, experts_per_token=2, expert_ffn=16,
        shared_experts=1, vocab_size=272, max_length=96,
    ),
    glyph_heads=False,
)  # fmt: skip


def write_run(folder: Path, seed: int = 0) -> Path:
    """A run folder that `train.load` can read. Process groups of one process must exist."""
    import torch
    from omegaconf import OmegaConf

    from data_pipeline.tokenizer import byte_tokenizer
    from parallel import checkpoint
    from parallel.snapshot import cut, describe
    from train.model.optical import build

    config = Config(model=TINY)
    config.data.modes, config.data.max_length = ["64", "32"], 96
    model = build(TINY, byte_tokenizer().image, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:  # what starts at zero must do something here
                weight.copy_(
                    weight * 3 if weight.any() else torch.randn(weight.shape, generator=generator) / 4
                )
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))
    pieces = [piece for entry in describe(model) for piece in cut(entry, entry.data, "model.")]
    checkpoint.save(folder / "checkpoints", 7, pieces, {"step": 7, "extra": {}}, keep=1)
    return folder
