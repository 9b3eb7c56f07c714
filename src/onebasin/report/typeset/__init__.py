"""Documents that typst sets: a report and slides of any folder of runs, or a text of one's own about results."""

from onebasin.report.typeset.compiling import Kind, has_typst
from onebasin.report.typeset.documents import write_documents
from onebasin.report.typeset.text import kinds_of, write_text

__all__ = ["Kind", "has_typst", "kinds_of", "write_documents", "write_text"]
