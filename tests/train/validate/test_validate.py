"""Impossible values: each is refused before torch, with the override that would do."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from conf.compose import FOLDER, Composer
from conf.errors import ConfigError
from train.config import Config
from train.validate import validate
from train.validate.files import file_faults

IMPOSSIBLE = {
    "model.decoder.heads=3": "model.decoder.heads=2",
    "model.decoder.heads=128": "rotary positions need an even number",
    "model.decoder.experts_per_token=9": "Choose 8 or less",
    "model.decoder.dense_layers=9": "choose 0 to model.decoder.layers=",
    "model.decoder.head_width=7": "Choose model.decoder.head_width=8",
    "model.decoder.ffn_rank=-1": "must be 0 or more",
    "model.encoder.window_head_width=-1": "must be 0 or more",
    "model.decoder.layers=0": "must be above 0",
    "model.encoder.image_size=100": "model.encoder.image_size=96",
    "model.encoder.window_heads=3": "The nearest that does: model.encoder.window_heads=",
    "model.encoder.compressor_widths=[64]": "give two widths",
    "model.encoder.global_layers=[7]": "choose from 0 to",
    "model.glyph_classes=300": "choose 1 to 256",
    "data.modes=['130']": "data.modes=['128']",
    "data.max_length=20": "takes up to 9 tokens in data.modes=['64'] before any text. Choose data.max_length=25",
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
    "run.timeout=0": "must be above 0",
    "engine.recompute=ful": "Did you mean engine.recompute=full?",
    "parallel.encoder=spilt": "Did you mean parallel.encoder=split?",
    "parallel.virtual=2": "parallel.virtual=1",
    "parallel.encoder_stages=1": "parallel.encoder_stages=0",
    "parallel.decoder_layers=[1,1]": "parallel.decoder_layers=[3]",
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


LAYOUTS = [
    (["parallel.tensor=2"], 3, "start a multiple of 2 processes (torchrun --nproc-per-node=4"),
    (["parallel.tensor=4", "parallel.pipeline=2"], 4, "parallel.tensor=4 parallel.pipeline=1"),
    (["parallel.expert=2"], 1, "choose parallel.expert=1"),
    ([], 3, "x 3 data-parallel processes. Choose data.global_batch=48"),
    ([], 2, "or data.micro_batch=8"),
    (["parallel.tensor=8"], 8, "does not divide model.decoder.heads=4. The nearest that divides every width: parallel.tensor=4"),
    (["parallel.tensor=2", "model.decoder.vocab_size=273"], 2, "or model.decoder.vocab_size=274"),
    (["parallel.tensor=2", "model.decoder.ffn=257"], 2, "divide model.decoder.ffn=257"),
    (["parallel.tensor=2", "model.decoder.expert_ffn=63"], 2, "shared_experts x expert_ffn=63"),
    (["parallel.tensor=2", "model.encoder.window_mlp=129"], 2, "or parallel.encoder=replicate"),
    (["parallel.tensor=2", "parallel.encoder=split", "model.encoder.window_heads=1"], 2, "or parallel.encoder=auto"),
    (["parallel.tensor=2", "data.max_length=301"], 2, "Choose data.max_length=300"),
    (["parallel.tensor=2", "parallel.sequence=false"], 2, "Choose parallel.sequence=true"),
    (["parallel.expert=3"], 3, "does not divide model.decoder.experts=8. The nearest that does: parallel.expert=2"),
    (["parallel.expert=2", "model.decoder.dense_layers=3"], 2, "no layer has experts"),
    (["parallel.pipeline=4", "model.decoder.layers=2"], 4, "piece 1 of 4 would hold nothing"),
    (["parallel.pipeline=2", "parallel.encoder_stages=2"], 2, "choose parallel.pipeline=3"),
    (["parallel=interleaved", "parallel.encoder_stages=1"], 2, "choose parallel.encoder_stages=0"),
    (["parallel=interleaved"], 2, "multiple of parallel.pipeline=2. Choose data.global_batch=32, or data.micro_batch=8"),
    (["engine.zero=2", "parallel.pipeline=2"], 2, "engine.zero=1"),
    (["engine.zero=3", "parallel.expert=2", "data.micro_batch=8"], 2, "engine.zero"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "world", "message"), LAYOUTS)
def test_a_layout_that_cannot_work_names_the_nearest_that_can(
    composer: Composer, overrides: list[str], world: int, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(composer.build(overrides), world, files=False)
    assert message in str(caught.value)


WORLDS = {"single": 1, "tp2": 2, "pp2": 2, "ep2": 2, "tp2_pp2": 4, "pp2_ep2": 4, "tp2_ep2": 2, "tp2_pp2_ep2": 4, "paper": 4,
          "interleaved": 2}  # fmt: skip


@pytest.mark.parametrize("model", ["tiny", "deepseek_ocr_3b"])
@pytest.mark.parametrize("choice", sorted(path.stem for path in (FOLDER / "parallel").glob("*.yaml")))
def test_every_layout_of_conf_works_on_the_processes_that_its_comment_tells(
    composer: Composer, choice: str, model: str
) -> None:
    overrides = ["experiment=smoke", f"parallel={choice}", f"model={model}", "data.max_length=400"]
    for copies in (1, 2):
        validate(composer.build(overrides), WORLDS[choice] * copies, files=False)
    with pytest.raises(ConfigError):
        validate(composer.build([*overrides, "engine.zero=0"]), WORLDS[choice], files=False)


def test_one_process_is_told_why_zero_3_and_pipelines_exclude_each_other_and_what_two_stages_need() -> None:
    began = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-m", "train", "parallel.pipeline=2", "engine.zero=3"],
        cwd=FOLDER.parent, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 2
    assert "engine.zero=3 with parallel.pipeline=2" in ran.stderr
    assert "Choose engine.zero=1" in ran.stderr
    assert "a multiple of 2 processes" in ran.stderr
    assert len(ran.stderr.splitlines()) == 3
    assert time.monotonic() - began < 5  # 0.8 s where nothing else runs: no torch


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


def test_shards_at_addresses_are_not_looked_for_on_this_machine(composer: Composer, tmp_path: Path) -> None:
    def faults(place: str) -> list[str]:
        config = composer.build([])
        config.data.held_out, config.data.floor = {}, {}
        for source in config.data.train.values():
            source.path = place
        return list(file_faults(config))

    assert faults("s3://bucket/pages") == faults("https://host/pages") == []
    assert "no shards there" in faults((tmp_path / "none").as_uri())[0]
    assert "not read from ftp://" in faults("ftp://host/pages")[0]


def test_what_resume_names_must_hold_checkpoints_and_excludes_another_start(
    composer: Composer, tmp_path: Path
) -> None:
    def faults(*overrides: str) -> list[str]:
        config = composer.build(overrides)
        config.data.train, config.data.held_out, config.data.floor = {}, {}, {}
        return list(file_faults(config))

    run = tmp_path / "first"
    step = run / "checkpoints" / "step-00000020"
    assert "no such folder" in faults(f"resume={run}")[0]
    step.mkdir(parents=True)
    (step / "manifest.json").touch()
    for path in (run, run / "checkpoints", step):
        assert faults(f"resume={path}") == []
        assert faults(f"stage.start_from={path}") == []
    assert f"choose resume={run}" in faults(f"resume={tmp_path}")[0]
    (tmp_path / "empty").mkdir()
    assert "no checkpoint there" in faults(f"resume={tmp_path}/empty")[0]
    with pytest.raises(ConfigError, match="Choose one"):
        validate(composer.build([f"resume={run}", f"stage.start_from={run}"]), world=1, files=False)
