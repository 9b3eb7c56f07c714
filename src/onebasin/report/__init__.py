"""Tables, figures and the written report; reads run directories and nothing else."""

from onebasin.report.aggregate import Arm, ReportError, Section, Spread, find_baseline, saving, sections
from onebasin.report.page import write_report
from onebasin.report.table import comparison_tables, markdown_table

__all__ = [
    "Arm",
    "ReportError",
    "Section",
    "Spread",
    "comparison_tables",
    "find_baseline",
    "markdown_table",
    "saving",
    "sections",
    "write_report",
]
