"""Reports on runs: tables, figures, an HTML page, and PDF documents.

This package reads run directories and result files, and trains nothing. `sections` groups runs into tasks and arms;
an `Arm` has the mean and the spread of its figures over seeds, and `saving` compares its bytes with those of a
baseline. `comparison_table` prints the comparison in a terminal, `markdown_table` gives it as Markdown, and
`write_report` writes one self-contained HTML page. Submodules draw single figures, such as `report.against` (accuracy
against a setting) and `report.interpolation` (loss between models); `report.typeset` compiles PDF reports and slides.
"""

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
