"""Writes report.html and report.json into a run folder."""

from pathlib import Path

from train.report.page import render
from train.report.run import read_run
from train.report.summary import summarise
from train.run_folder import write_json, write_text


def write_report(run_folder: Path) -> Path:
    """Read the run in `run_folder`, finished or not, and write its report.json and report.html; returns the
    page's path.

    Raises data_pipeline.errors.UserError where the folder is not one of a run.
    """
    run = read_run(run_folder)
    summary = summarise(run)
    write_json(run_folder / "report.json", summary)
    page = run_folder / "report.html"
    write_text(page, render(run, summary))
    return page
