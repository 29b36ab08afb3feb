"""Mistakes in overrides: what each is answered with."""

from pathlib import Path

import pytest

from conf.compose import FOLDER, Composer, compose
from conf.errors import ConfigError
from conf.overrides import quote_elements
from data_pipeline.config import BuildConfig
from train.config import Config, RecipeConfig
from train.plan.config import PlanConfig

MISTAKES = {
    "optim.lrr=1": "no option optim.lrr. Did you mean optim.lr",
    "lr=1": "no option lr. Did you mean optim.lr?",
    "stage=pretrian": "Did you mean stage=pretrain? Choices: distill, dora, encoder, pretrain, qat, tune",
    "+oops=1": "no option oops",
    "++oops=1": "no option oops",
    "+seed=1": "seed exists already. Write it without the +: seed=1",
    "+stage=encoder": "Write it without the +: stage=encoder",
    "~seed": "cannot be removed. Write seed=VALUE",
    "~stage": "cannot be removed",
    "model.decoder.layers=abc": "model.decoder.layers must be a whole number, not abc",
    "seed=1.5": "seed must be a whole number, not 1.5",
    "optim.lr=null": "optim.lr must be a number, not null",
    "optim.betas=0.9": "a list of numbers, such as [1,2]",
    "stage.frozen=[{a:1}]": "a list of texts",
    "stage={steps:abc}": "stage.steps must be a whole number, not abc",
    "stage={stepz:3}": "Did you mean stage.steps",
    "run=mine": "run holds several options, set them one by one: run.name",
    "optim.lr=[1": "cannot be read",
    "pretrain": "not an override. Write OPTION=VALUE",
    "optim.lr=1,2": "Add -m",
    "seed=${nothing}": "seed: Interpolation key 'nothing' not found",
    "data.train.rato-4.weight=2": "data.train has no rato-4. It has: ratio-4, ratio-8",
    "data.train.ratio-4.weight=x": "must be a whole number, not x",
    "+data.train.mine.paht=x": "no option data.train.mine.paht",
    "+data.train.mine.weight=2": "data.train.mine.path is not set: give +data.train.mine.path=VALUE",
}


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer("config", Config)


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_is_named_as_typed_with_what_to_type_instead(composer: Composer, typed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        composer.build([typed])
    message = str(caught.value)
    assert MISTAKES[typed] in message
    assert len(message.splitlines()) == 1


def test_overrides_and_groups_reach_the_typed_object(composer: Composer) -> None:
    config = composer.build(
        ["stage=encoder", "optim.lr=1e-3", "model.encoder.global_layers=[0,1]", "run.name=my try"]
    )
    assert isinstance(config, Config)
    assert (config.stage.name, config.optim.lr, config.run.name) == ("encoder", 1e-3, "my try")
    assert config.model.encoder.global_layers == [0, 1]
    assert config.stage.objective.patch_glyphs == 1.0
    assert config.overrides[:2] == ["stage=encoder", "optim.lr=1e-3"]


def test_sources_are_added_changed_and_removed(composer: Composer) -> None:
    config = composer.build(
        ["+data.train.mine={path:/pages,weight:3}", "+data.train.more.path=x", "~data.train.ratio-8",
         "data.train.ratio-4.weight=2"]
    )  # fmt: skip
    assert {name: source.weight for name, source in config.data.train.items()} == {
        "ratio-4": 2,
        "mine": 3,
        "more": 1,
    }
    assert config.data.train["mine"].path == "/pages"


def test_lists_of_overrides_need_no_quotes_inside() -> None:
    typed = "common=[optim.lr=1e-3,stage.frozen=[a,b],data.root='/x y']"
    assert quote_elements(typed) == typed  # has quotes already: left alone
    recipe = compose("recipe", RecipeConfig, ["common=[optim.lr=1e-3,stage.frozen=[a,b],~data.train.b]"])
    assert recipe.common == ["optim.lr=1e-3", "stage.frozen=[a,b]", "~data.train.b"]
    assert compose("config", Config, ["stage.frozen=[encoder,decoder]"]).stage.frozen == [
        "encoder",
        "decoder",
    ]


def test_a_users_own_folder_adds_choices(tmp_path: Path) -> None:
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_text("lr: 0.5\n")
    composer = Composer("config", Config, tmp_path)
    assert composer.build(["optim=mine"]).optim.lr == 0.5
    with pytest.raises(ConfigError, match=r"Choices: adafactor, adamw, adamw_8bit, galore, lion, lion_8bit, lomo, mine, muon, paper, schedule_free"):
        composer.build(["optim=main_"])


@pytest.mark.parametrize(
    ("content", "message"),
    [("lr: 1\n  wd: 2\n", "mine.yaml:2:"), ("lrr: 1\n", "lrr"), ("lr: many\n", "many")],
)
def test_a_broken_file_of_the_user_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_text(content)
    with pytest.raises(ConfigError) as caught:
        Composer("config", Config, tmp_path).build(["optim=mine"])
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def choices() -> list[tuple[str, str]]:
    """Every file of every group: (group, choice)."""
    return sorted((path.parent.name, path.stem) for path in FOLDER.glob("*/*.yaml"))


@pytest.mark.parametrize(("group", "choice"), choices())
def test_every_file_in_conf_composes(group: str, choice: str) -> None:
    commands = {"corpus": ("build", BuildConfig), "recipe": ("recipe", RecipeConfig), "device": ("plan", PlanConfig)}
    name, schema = commands.get(group, ("config", Config))
    extra = {("corpus", "folder"): ["corpus.path=texts"], ("device", choice): ["world_size=8"]}.get((group, choice), [])
    assert compose(name, schema, [f"{group}={choice}", *extra]) is not None


def test_entries_are_those_of_the_chosen_group() -> None:
    with pytest.raises(ConfigError, match=r"corpus\.parts has no chrt\. It has: page, pdf"):
        Composer("build", BuildConfig).compose(["corpus=mix_small", "corpus.parts.chrt.samples=3"])
