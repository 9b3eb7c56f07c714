"""PDF, slides and HTML documents, which the typesetting system typst compiles.

`write_documents` writes the standard report and slides about any folder of runs. `write_text` compiles a user's own
typst sources; a file `results.toml` beside them lists the figures, tables and numbers that they take from results.
"""

from onebasin.report.typeset.compiling import Kind, has_typst
from onebasin.report.typeset.documents import write_documents
from onebasin.report.typeset.text import available_kinds, write_text

__all__ = ["Kind", "available_kinds", "has_typst", "write_documents", "write_text"]
