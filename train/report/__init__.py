"""One self-contained HTML page of a run: the curve with its floors, the pages beside what was read, how it
was learned.
"""

from train.report.write import write_report

__all__ = ["write_report"]
