"""Conversion of Markdown to data that typst lays out and does not evaluate.

Headings, paragraphs, lists, tables, code, emphasis and links are supported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onebasin.report.arms import ReportError
from onebasin.report.typeset.pieces import Piece


def markdown_piece(text: str, sections: Sequence[str] = (), without: Sequence[str] = ()) -> Piece:
    """Return a Markdown page without its title as blocks.

    sections: the second-level sections to use, without their headings (default: the whole page). without:
    second-level sections to leave out. A link that does not start with https:// is replaced by its text.
    Raises ReportError for a section that does not exist, and for Markdown that is not supported.
    """
    from markdown_it import MarkdownIt
    from markdown_it.tree import SyntaxTreeNode

    tree = SyntaxTreeNode(MarkdownIt("commonmark", {"html": False}).enable("table").parse(text))
    nodes = [node for node in tree.children if not (node.type == "heading" and node.tag == "h1")]
    if sections:
        nodes = [node for name in sections for node in _section(nodes, name)[1:]]
    for name in without:
        left_out = {id(node) for node in _section(nodes, name)}
        nodes = [node for node in nodes if id(node) not in left_out]
    return {"kind": "markdown", "blocks": [_block(node) for node in nodes]}


def _section(nodes: Sequence[Any], name: str) -> list[Any]:
    starts = [index for index, node in enumerate(nodes) if node.type == "heading" and node.tag == "h2"]
    for start, end in zip(starts, [*starts[1:], len(nodes)], strict=True):
        if nodes[start].children[0].content == name:
            return list(nodes[start:end])
    names = ", ".join(repr(nodes[start].children[0].content) for start in starts)
    raise ReportError(f"no section {name!r}; there are: {names}")


def _block(node: Any) -> Piece:
    match node.type:
        case "heading":
            return {"kind": "heading", "level": int(node.tag[1:]) - 1, "parts": _parts(node)}
        case "paragraph":
            return {"kind": "paragraph", "parts": _parts(node)}
        case "bullet_list" | "ordered_list":
            return {"kind": "list", "items": [[_block(child) for child in item.children] for item in node.children]}
        case "table":
            rows = [[_parts(cell) for cell in row.children] for part in node.children for row in part.children]
            return {"kind": "table", "head": rows[0], "rows": rows[1:]}
        case "fence" | "code_block":
            return {"kind": "code", "text": node.content.rstrip("\n")}
        case other:
            raise ReportError(
                f"Markdown with a block of kind {other}; expected headings, paragraphs, lists, tables, code"
            )


def _parts(node: Any) -> list[Piece]:
    """Return the inline content of a block or of an inline node."""
    inline = node.children[0].children if node.children and node.children[0].type == "inline" else node.children
    return [part for child in inline for part in _inline(child)]


def _inline(node: Any) -> list[Piece]:
    match node.type:
        case "text":
            return [{"kind": "text", "text": node.content}] if node.content else []
        case "code_inline":
            return [{"kind": "code", "text": node.content}]
        case "softbreak" | "hardbreak":
            return [{"kind": "break"}]
        case "em" | "strong":
            return [{"kind": node.type, "parts": _parts(node)}]
        case "link":
            url = str(node.attrs.get("href", ""))
            return [{"kind": "link", "to": url, "parts": _parts(node)}] if url.startswith("https://") else _parts(node)
        case "image":
            return []
        case other:
            raise ReportError(f"Markdown with {other}; expected text, emphasis, code and links")
