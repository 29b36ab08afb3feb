"""Teachers that cannot teach this student: refused when the configuration loads, with the override that would do."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from conf.compose import Composer
from conf.errors import ConfigError
from data_pipeline.manifest import Manifest
from data_pipeline.prediction_sets import Facts
from data_pipeline.tokenizer import byte_tokenizer
from train.config import Config
from train.validate import validate
from train.validate.teacher import distill_file_faults


def composed(overrides: Sequence[str]) -> Config:
    return Composer("config", Config).build(["stage=distill", *overrides])


def write_teacher(folder: Path, *overrides: str) -> Path:
    """A run folder as far as a configuration is checked: what it was configured as."""
    folder.mkdir()
    config = Composer("config", Config).build(list(overrides))
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))
    return folder


IMPOSSIBLE = {
    "": "Name a run, distill.teacher=runs/NAME, or what one told",
    "distill.cache=told distill.teacher=runs/a": "Choose distill.cache=null, or distill.teacher=null",
    "distill=none distill.teacher=runs/a": "Choose distill=logits, or distill.weight=1",
    "distill=features distill.cache=told": "holds predictions, no features. Choose distill.hidden=0 distill.features=0",
    "distill=cached distill.cache=told distill.teacher_modes=[96]": "no teacher runs along",
    "distill.teacher=runs/a distill.divergence=reverse": "choose one of forward_kl, reverse_kl, jsd",
    "distill.teacher=runs/a distill.distance=l1": "choose one of mse, cosine",
    "distill.teacher=runs/a distill.temperature=0": "distill.temperature=0.0: must be above 0",
    "distill.teacher=runs/a distill.mixture=1": "between 0 and 1, such as 0.5",
    "distill.teacher=runs/a distill.top_k=-1": "distill.top_k=-1: must be 0 or more",
    "distill.teacher=runs/a distill.next_token=-1": "distill.next_token=-1.0: must be 0 or more",
    "distill.teacher=runs/a parallel=pp2": "Write its predictions first (python -m train.cache_teacher)",
}


@pytest.mark.parametrize("overrides", IMPOSSIBLE)
def test_what_cannot_be_taught_is_refused_without_a_look_at_files(overrides: str) -> None:
    config = composed(overrides.split())
    with pytest.raises(ConfigError) as refused:
        validate(config, 2 if "pp2" in overrides else 1, files=False)
    assert IMPOSSIBLE[overrides] in str(refused.value)


@pytest.mark.parametrize("overrides", ["distill.teacher=runs/a", "distill=features distill.teacher=runs/a",
                                       "distill=cached distill.cache=told", "distill=cached distill.cache=told parallel=pp2"])  # fmt: skip
def test_what_can_be_taught_is_not(overrides: str) -> None:
    validate(composed(overrides.split()), 2 if "pp2" in overrides else 1, files=False)


def faults(*overrides: str) -> str:
    return " ".join(distill_file_faults(composed(overrides)))


def test_a_teacher_that_is_not_there_is_named_by_its_option(tmp_path: Path) -> None:
    assert f"distill.teacher={tmp_path}/none: no such folder" in faults(f"distill.teacher={tmp_path}/none")


def test_a_teacher_of_another_tokenizer_or_vocabulary_is_refused_naming_both(tmp_path: Path) -> None:
    from data_pipeline.tokenizer import train_tokenizer

    train_tokenizer(["some text to learn from, some of it twice"] * 20, 290, tmp_path / "other.json")
    other = write_teacher(tmp_path / "other", f"data.tokenizer={tmp_path}/other.json")
    told = faults(f"distill.teacher={other}")
    assert f"its tokenizer is {tmp_path}/other.json, the student's is data.tokenizer=bytes" in told
    wider = write_teacher(tmp_path / "wider", "model.decoder.vocab_size=288")
    told = faults(f"distill.teacher={wider}")
    assert "its output has 288 tokens, the student's model.decoder.vocab_size=272" in told
    assert "Choose model.decoder.vocab_size=288" in told
    alike = write_teacher(tmp_path / "alike", "model.decoder.layers=5", "model.decoder.width=192")
    assert not faults(f"distill.teacher={alike}", "distill.teacher_modes=[96]")


def test_pages_that_leave_the_teacher_no_room_and_modes_that_are_none_are_refused(tmp_path: Path) -> None:
    teacher = write_teacher(tmp_path / "teacher")
    told = faults(f"distill.teacher={teacher}", "distill.teacher_modes=[704]")
    assert "distill.teacher_modes=['704']: a page takes up to 507 positions before any text, and the teacher has 512" in told
    assert "there is no mode 'grand'" in faults(f"distill.teacher={teacher}", "distill.teacher_modes=[grand]")
    assert "a multiple of 32" in faults(f"distill.teacher={teacher}", "distill.teacher_modes=['100']")


def test_a_teacher_that_its_students_ranks_cannot_share_is_refused(tmp_path: Path) -> None:
    teacher = write_teacher(tmp_path / "teacher", "model.decoder.heads=3", "model.decoder.width=96")
    told = faults(f"distill.teacher={teacher}", "parallel=tp2")
    assert f"distill.teacher={teacher} is split as its student is; of it parallel.tensor=2: does not divide" in told


def test_vision_tokens_that_do_not_correspond_are_refused(tmp_path: Path) -> None:
    teacher, own = write_teacher(tmp_path / "teacher", "model.decoder.max_length=2048"), "distill=features"
    fewer = faults(f"distill.teacher={teacher}", own, "distill.teacher_modes=['32']")
    assert "the teacher sees a page in 1 x 1 vision tokens, the student in 2 x 2" in fewer
    assert "resized and padded" in faults(f"distill.teacher={teacher}", own, "distill.teacher_modes=['704']")
    assert not faults(f"distill.teacher={teacher}", own, "distill.teacher_modes=['128']")


def write_told(folder: Path, **changed: object) -> Path:
    facts = Facts("digest", byte_tokenizer().digest, 272, 16, 1.0, "runs/large", "abc", ["96"]).to_config()
    (folder / "pages").mkdir(parents=True)
    Manifest("pages", "train", [], config={**facts, **changed}).save(folder / "pages")
    return folder


@pytest.mark.parametrize(
    ("changed", "overrides", "told"),
    [
        ({"tokenizer": "other"}, [], "runs/large told it in the tokens of another tokenizer than data.tokenizer=bytes"),
        ({"vocabulary": 300}, [], "Choose model.decoder.vocab_size=300"),
        ({"temperature": 2.0}, [], "Choose distill.temperature=2.0"),
        ({}, ["distill.top_k=32"], "Choose distill.top_k=16"),
    ],
)
def test_what_was_told_otherwise_is_refused(
    tmp_path: Path, changed: dict[str, object], overrides: list[str], told: str
) -> None:
    folder = write_told(tmp_path / "told", **changed)
    for name in ("ratio-4", "ratio-8"):
        (tmp_path / "train" / name).mkdir(parents=True)
        Manifest(name, "train", []).save(tmp_path / "train" / name)
    found = faults("distill=cached", f"distill.cache={folder}", f"data.root={tmp_path}", *overrides)
    assert told in found and "no predictions of data.train.ratio-4" in found
