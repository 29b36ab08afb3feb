"""Impossible values: each is refused before torch, with the override that would do."""

from pathlib import Path

import pytest

from conf.compose import Composer
from conf.errors import ConfigError
from train.config import Config
from train.validate import validate

IMPOSSIBLE = {
    "model.decoder.heads=3": "model.decoder.heads=2",
    "model.decoder.heads=128": "rotary positions need an even number",
    "model.decoder.experts_per_token=9": "Choose 8 or less",
    "model.decoder.dense_layers=9": "choose 0 to model.decoder.layers=",
    "model.decoder.layers=0": "must be above 0",
    "model.encoder.image_size=100": "model.encoder.image_size=96",
    "model.encoder.window_heads=3": "The nearest that does: model.encoder.window_heads=",
    "model.encoder.compressor_widths=[64]": "give two widths",
    "model.encoder.global_layers=[7]": "choose from 0 to",
    "model.glyph_classes=300": "choose 1 to 256",
    "data.image_size=130": "data.image_size=128",
    "data.max_length=20": "takes 9 tokens before any text. Choose data.max_length=25",
    "data.max_length=100000": "or a larger model.decoder.max_length",
    "data.micro_batch=0": "data.micro_batch=0: must be above 0",
    "data.micro_batch=5": "Choose data.global_batch=15, or data.micro_batch=4",
    "data.max_bad_fraction=2": "from 0 to 1",
    "data.train.ratio-4.weight=0": "data.train.ratio-4.weight=0: must be 1 or more",
    "~data.held_out.ratio-4": "Remove it: ~data.floor.ratio-4",
    "optim.lr=0": "optim.lr=0.0: must be above 0",
    "optim.lr=nan": "must be above 0",
    "optim.name=adam": "Did you mean optim.name=adamw?",
    "optim.schedule=cosin": "Did you mean optim.schedule=cosine?",
    "optim.betas=[0.9,1.0]": "optim.betas=[0.9,0.95]",
    "optim.final_fraction=-0.1": "must be a fraction",
    "optim.step_milestones=[0.9,0.6]": "rising fractions",
    "optim.warmup_steps=100000": "Choose optim.warmup_steps=",
    "stage.steps=0": "stage.steps=0: must be above 0",
    "stage.evaluation_pages=1": "must be 2 or more",
    "stage.frozen=[encoder.windw]": "Did you mean encoder.window?",
    "stage.frozen=[encoder,decoder]": "nothing is left to train",
    "stage.curriculum.levels=[[ratio-4],[ratio-9]]": "no source ratio-9. Did you mean ratio-",
    "stage.curriculum.levels=[[],[ratio-4]]": "level 0 is empty",
    "stage.curriculum.advance_at=1.5": "must be a fraction",
    "engine.precision=fp16": "engine.precision=fp32 or bf16",
    "engine.zero=7": "choose engine.zero=1",
    "engine.clip=-1": "0 for no clipping",
    "parallel.tensor=0": "choose parallel.tensor=1",
    "logger.wandb=onlin": "Did you mean logger.wandb=online?",
    "run.device=gpu": "choose one of auto, cpu, cuda",
    "run.name=''": "give the run a name",
    "seed=-1": "choose 0 to",
}


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer("config", Config)


@pytest.mark.parametrize("typed", IMPOSSIBLE)
def test_an_impossible_value_names_what_would_do(composer: Composer, typed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(composer.build([typed]), world=1, files=False)
    assert IMPOSSIBLE[typed] in str(caught.value)


@pytest.mark.parametrize("stage", ["encoder", "pretrain"])
@pytest.mark.parametrize("model", ["tiny", "small", "deepseek_ocr_3b"])
def test_what_conf_offers_is_possible(composer: Composer, stage: str, model: str) -> None:
    validate(
        composer.build([f"stage={stage}", f"model={model}", "model.glyph_heads=true"]), world=1, files=False
    )


def test_glyph_losses_need_their_heads(composer: Composer) -> None:
    with pytest.raises(ConfigError, match=r"Choose model\.glyph_heads=true"):
        validate(composer.build(["stage=encoder", "model.glyph_heads=false"]), world=1, files=False)


@pytest.mark.parametrize(
    ("overrides", "world", "message"),
    [
        (["parallel.tensor=2"], 3, "start a multiple of 2 processes"),
        (["parallel.expert=2"], 1, "choose parallel.expert=1"),
        ([], 3, "x 3 data-parallel processes. Choose data.global_batch=48"),
        ([], 2, "or data.micro_batch=8"),
    ],
)
def test_layouts_that_do_not_fit_the_world(
    composer: Composer, overrides: list[str], world: int, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(composer.build(overrides), world, files=False)
    assert message in str(caught.value)


def test_two_processes_share_the_batch(composer: Composer) -> None:
    validate(composer.build(["data.micro_batch=8"]), world=2, files=False)


def test_all_faults_are_told_at_once(composer: Composer) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(composer.build(["optim.lr=-1", "data.micro_batch=0", "seed=-5"]), world=1, files=False)
    assert str(caught.value).startswith("3 settings cannot work:")
    assert all(name in str(caught.value) for name in ("optim.lr", "data.micro_batch", "seed"))


def test_missing_shards_are_told_with_the_command_that_builds_them(
    composer: Composer, tmp_path: Path
) -> None:
    config = composer.build([f"data.root={tmp_path}"])
    with pytest.raises(
        ConfigError, match=rf"5 more: no shards there.*data_pipeline\.build corpus=smoke out={tmp_path}"
    ):
        validate(config, world=1)
    for group in (config.data.train, config.data.held_out, config.data.floor):
        for source in group.values():
            Path(source.path).mkdir(parents=True)
            (Path(source.path) / "manifest.json").touch()
    validate(config, world=1)
    config.stage.start_from, config.data.tokenizer = str(tmp_path / "no"), "nothing.json"
    with pytest.raises(ConfigError, match=r"(?s)nothing\.json: no such file.*start_from.*no such folder"):
        validate(config, world=1)
