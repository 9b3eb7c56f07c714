"""Tables, figures and the written report; reads run directories and nothing else."""

from onebasin.report.aggregate import sections
from onebasin.report.arms import Arm, ReportError, Section, Spread
from onebasin.report.baseline import find_baseline, saving
from onebasin.report.page import write_report
from onebasin.report.table import comparison_table, markdown_table

__all__ = [
    "Arm",
    "ReportError",
    "Section",
    "Spread",
    "comparison_table",
    "find_baseline",
    "markdown_table",
    "saving",
    "sections",
    "write_report",
]
