"""What a run comes to: report.json, and the one sentence over the report."""

import hashlib
from typing import Any

from train.report.decomposition import decomposition_summaries
from train.report.facts import git_revision, machine_kind, versions
from train.report.kinds import kind_summaries
from train.report.run import TAKES_OFF, Run
from train.report.stages import stage_rows

READS = 0.9  # precision from which the headline speaks of a ratio as read


def summarise(run: Run) -> dict[str, Any]:
    """The content of report.json. Figures that the run does not have yet are None or empty, and named in
    `missing`.
    """
    evaluation = run.evaluation or {}
    stages = [stage.summary() for stage in run.stages]
    seconds = sum(stage["seconds"] for stage in stages)
    status = next((stage.status for stage in reversed(run.stages) if stage.status), {})
    configuration = "\n".join(stage.config_text for stage in run.stages)
    return {
        "run": run.name,
        "headline": headline(evaluation.get("curve", [])),
        "stages": stages,
        "image_gain": evaluation.get("image_gain"),
        "takes_off": run.takes_off(),
        "curve": evaluation.get("curve", []),
        "kinds": kind_summaries(evaluation),
        "after_each_stage": stage_rows(run),
        "weight_decomposition": decomposition_summaries(run),
        "parameters": evaluation.get("parameters", status.get("parameters")),
        "tokens_per_second": sum(stage["tokens"] for stage in stages) / seconds if seconds else None,
        "pages_per_second": sum(stage["pages"] for stage in stages) / seconds if seconds else None,
        "recipe": [{key: step.get(key) for key in ("name", "state", "seconds")} for step in run.recipe],
        "config_hash": hashlib.sha256(configuration.encode()).hexdigest()[:16]
        if configuration.strip()
        else None,
        "device": evaluation.get("device", status.get("device")),
        "machine": machine_kind(),
        "versions": versions(),
        "git_revision": git_revision(),
        "missing": run.missing,
    }


def headline(curve: list[dict[str, Any]]) -> str:
    """The result in words, with the floor beside it; it says so when the model does not look at its pages."""
    if not curve:
        return "Not evaluated yet"
    row = best_row(curve)
    amount = f"{100 * row['precision']:.0f} %"
    ratio = f"{row['bytes_per_vision_token']:.1f} bytes per vision token"
    floor, gain = row.get("precision_shuffled"), row.get("image_gain")
    if gain is not None and gain < TAKES_OFF:
        return f"Does not read yet: {amount} at {ratio} is guessed from language, hardly looking at the page."
    sentence = f"Reads {amount} of held-out text at {ratio}."
    return sentence if floor is None else f"{sentence} Guessing without the page: {100 * floor:.0f} %."


def best_row(curve: list[dict[str, Any]]) -> dict[str, Any]:
    """The densest text that is read well; where none is, what is read best."""
    well = [row for row in curve if row["precision"] >= READS]
    if well:
        return max(well, key=lambda row: row["bytes_per_vision_token"])
    return max(curve, key=lambda row: row["precision"])
