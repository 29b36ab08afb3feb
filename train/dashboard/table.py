"""docs/metrics.md, made from the catalogue."""

from train.monitor.catalogue import CATALOGUE

BEFORE = """# Metrics

What a run logs to `metrics.jsonl`, and to wandb where it is asked for; made from `train/monitor/catalogue.py` by
`python -m train.dashboard --metrics > docs/metrics.md`. `*` stands for one source, kind, layer or part. The dashboard
(`python -m train.dashboard`) has a section for each heading, and a panel for each row, over text tokens.
"""


def page() -> str:
    """The whole page."""
    text = BEFORE
    for section in dict.fromkeys(metric.section for metric in CATALOGUE):
        text += f"\n## {section}\n\n| metric | unit | meaning | takes |\n|---|---|---|---|\n"
        for metric in CATALOGUE:
            if metric.section == section:
                cells = (f"`{metric.name}`", metric.unit, metric.meaning, metric.needs)
                text += "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
    return text
