"""Maps to a teacher's widths train with the student, are saved with it, and are no part of the model that a later stage reads."""

from pathlib import Path

import pytest
import torch

from parallel.errors import CheckpointError
from parallel.snapshot import load_module
from tests.parallel.layouts import Case, built, engine_of
from tests.train.distill.teaching import parts, settings
from train.distill.attach import attach_helpers


def test_they_come_back_to_who_has_them_and_nobody_else_needs_them(teacher_run: Path, tmp_path: Path) -> None:
    config = settings(Case(), teacher_run)
    teacher, _, _ = parts(config)
    module = built(Case())
    attach_helpers(config, module, teacher)
    assert module.helpers.hidden.weight.shape == module.helpers.features.weight.shape == (48, 32)
    engine = engine_of(Case(), module)
    engine.save(tmp_path, 1, {})
    engine.close()
    plain, again = built(Case(), seed=2), built(Case(), seed=2)
    report = load_module(tmp_path, plain)
    assert not report.missing and not report.unexpected
    assert torch.equal(plain.decoder.output_layer.weight, module.decoder.output_layer.weight)
    attach_helpers(config, again, teacher)
    with torch.no_grad():
        again.helpers.hidden.weight.zero_()
    load_module(tmp_path, again)
    assert torch.equal(again.helpers.hidden.weight, module.helpers.hidden.weight)


def test_a_checkpoint_without_them_does_not_pass_for_one_with_them(teacher_run: Path, tmp_path: Path) -> None:
    config = settings(Case(), teacher_run)
    teacher, _, _ = parts(config)
    module = built(Case())
    engine = engine_of(Case(), module)
    engine.save(tmp_path, 1, {})
    engine.close()
    attach_helpers(config, module, teacher)
    with pytest.raises(CheckpointError, match="missing"):
        load_module(tmp_path, module)


def test_a_student_of_its_teachers_width_needs_none(teacher_run: Path) -> None:
    config = settings(Case(), teacher_run)
    teacher, _, _ = parts(config)
    config.model.decoder.width = teacher.width
    module = built(Case())
    attach_helpers(config, module, teacher)
    assert module.helpers is None
