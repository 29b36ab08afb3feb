"""The objective of a student: alike when samples share rows, nothing to learn from itself, the same from a file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from data_pipeline.batch import NO_LOSS, BatchSpec, Collator
from data_pipeline.predictions import Told
from data_pipeline.strata import COUNT
from data_pipeline.taught import TaughtCollator
from data_pipeline.tokenizer import byte_tokenizer
from parallel.layers.divergence import log_softmaxes, top_predictions
from tests.packed_samples import record
from tests.parallel.layouts import Case, built
from tests.train.distill.teaching import parts, settings
from train.config import DistillConfig
from train.distill.attach import attach_helpers
from train.distill.teacher import Teacher
from train.objective import Distill, NextToken
from train.objective.distances import of_pages, pooled, squared

NORMALIZERS = {"tokens": 7.0, "cells": 1.0, "pages": 2.0}
SAMPLES = ((1, "first page"), (0, "text alone"), (1, "two"), (1, "the last one"))


def a_student(seed: int = 3) -> Any:
    module = built(Case(), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    return module.train()


def batch_of(collator: Collator, packed: bool = False) -> Any:
    found = [
        collator.sample(record(f"k{number}", pages, text)) for number, (pages, text) in enumerate(SAMPLES)
    ]
    rows = [found[:2], found[2:]] if packed else [[one] for one in found]
    make = collator.packed if packed else collator.rows
    return make(rows, [["noise"] * len(row) for row in rows])


def test_packed_rows_learn_what_rows_of_a_sample_each_do(teacher_run: Path) -> None:
    config = settings(Case(), teacher_run)
    teacher, objective, collator = parts(config)
    objective = replace(objective, next_token=NextToken())
    module = a_student()
    attach_helpers(config, module, teacher)
    found = []
    for packed in (False, True):
        output = objective(module, batch_of(collator, packed), NORMALIZERS)
        parameters = [p for name, p in module.named_parameters() if "glyph" not in name]
        gradients = torch.autograd.grad(output.loss, parameters, allow_unused=True)
        found.append([output.loss, *output.sums.values(), *(g for g in gradients if g is not None)])
    assert len(found[0]) == len(found[1])
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "jsd"])
def test_a_student_at_its_teachers_resolution_with_its_weights_has_nothing_to_learn(
    one_process: None, kind: str
) -> None:
    module, teacher = a_student(), a_student()
    module.load_state_dict(teacher.state_dict())
    spec = BatchSpec(("64",), 8, 160)
    asked = DistillConfig(divergence=kind, weight=1.0, next_token=0.0, hidden=1.0, features=1.0)
    objective = Distill(NextToken(), asked, Teacher(teacher.eval().requires_grad_(False), spec, 32))
    output = objective(
        module.eval(), batch_of(TaughtCollator(byte_tokenizer(), spec, teacher=spec)), NORMALIZERS
    )
    output.loss.backward()
    assert all(abs(float(output.sums[name])) < 1e-4 for name in ("divergence", "hidden", "features"))
    assert max(float(p.grad.abs().max()) for p in module.parameters() if p.grad is not None) < 1e-5


def test_what_a_teacher_told_before_teaches_as_it_does_when_it_runs_along(teacher_run: Path) -> None:
    """Up to fp16, in which log-probabilities are kept."""
    config = settings(Case(), teacher_run, "top 8")
    teacher, online, collator = parts(config)
    module, batch = a_student(), batch_of(collator)
    lesson = teacher(batch.twin)
    (logs,) = log_softmaxes([lesson.source.block(slice(None))], module.decoder.output_layer.tp_group)
    ids, logs = top_predictions(logs, 20, module.decoder.output_layer.tp_group)
    told = replace(batch, told=Told(ids.int(), logs.half()))
    plain = NextToken()
    from_file = Distill(plain, config.distill)
    parameters = [p for name, p in module.named_parameters() if "glyph" not in name]
    found = []
    for objective, seen in ((replace(online, next_token=plain), batch), (from_file, told)):
        output = objective(module, seen, NORMALIZERS)
        gradients = torch.autograd.grad(output.loss, parameters, allow_unused=True)
        found.append(
            (output.sums["divergence"], torch.cat([g.flatten() for g in gradients if g is not None]))
        )
    (value, gradient), (other_value, other_gradient) = found
    assert float(value) > 0 and float(other_value) == pytest.approx(float(value), rel=3e-3)
    assert float((gradient - other_gradient).norm()) < 3e-3 * float(gradient.norm())


def test_divergence_is_of_the_labelled_positions_of_each_sample_at_both_resolutions(
    teacher_run: Path,
) -> None:
    """Against whole logits of student and teacher, sample by sample."""
    config = settings(Case(), teacher_run)
    config.distill = DistillConfig(teacher=str(teacher_run), teacher_modes=["96"], weight=1.0)
    teacher, objective, collator = parts(config)
    module, batch = a_student().eval(), batch_of(collator)
    with torch.no_grad():
        found = replace(objective, next_token=NextToken(strata=True))(module, batch, NORMALIZERS)
        logits, wanted = module(batch).logits, teacher.model(batch.twin).logits
    total, apart = 0.0, torch.zeros(2, COUNT, dtype=torch.float64)
    for row in range(len(SAMPLES)):
        own, its = batch.labels[row] != NO_LOSS, batch.twin.labels[row] != NO_LOSS
        assert own.sum() == its.sum() > 0
        logs, teachers = logits[row][own].log_softmax(-1), wanted[row][its].log_softmax(-1)
        total += float(F.kl_div(logs, teachers, reduction="sum", log_target=True))
        nats = F.nll_loss(logs, batch.labels[row][own], reduction="sum")
        apart[:, batch.strata[row]] += torch.stack([nats.double(), own.sum().double()]).unsqueeze(1)
    assert float(found.sums["divergence"]) == pytest.approx(total, rel=1e-5)
    assert torch.allclose(found.sums["strata"], apart.flatten(), rtol=1e-5)


def test_vision_tokens_are_compared_with_the_mean_of_what_they_cover() -> None:
    from types import SimpleNamespace

    torch.manual_seed(0)
    fine, coarse = torch.randn(2, 16, 5), torch.randn(3, 4, 5, requires_grad=True)
    means = fine.view(2, 2, 2, 2, 2, 5).mean((2, 4)).flatten(1, 2)
    assert torch.allclose(pooled(fine, 2), means)
    own = [SimpleNamespace(overview=(64, 2)), SimpleNamespace(overview=(64, 0))]
    its = [SimpleNamespace(overview=(128, 1)), SimpleNamespace(overview=(128, 0))]
    found = of_pages({64: coarse}, own, {128: fine}, its, squared)
    expected = (coarse[2] - means[1]).square().mean() + (coarse[0] - means[0]).square().mean()
    torch.testing.assert_close(found, expected)
    nothing = of_pages({64: coarse}, [], {128: fine}, [], squared)
    nothing.backward()
    assert float(nothing) == 0 and coarse.grad is not None and not coarse.grad.any()
