"""Griffe extension: docstrings as Markdown, and what the API pages show of modules and settings.

Docstrings of this package are plain text: one line, then paragraphs. In these, ``name: text`` at the start of a line or
sentence describes a parameter or an attribute, and becomes an item of a list; a sentence on what is returned or raised,
or on sources, becomes a paragraph. Characters that Markdown would take for links, HTML or emphasis are escaped outside
code. Names that a module only passes on are left out, and settings (pydantic models) show their fields and defaults.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_CODE = re.compile(r"(``.+?``|`[^`\n]+`)", re.DOTALL)
_SENTENCES = r"(?:Returns?|Raises|Yields|Errors:|Sources?:|Method:)(?=\s)"
_PLAIN = re.compile(r"[a-zA-Z`\"'(\[<$]")


class Reference(griffe.Extension):
    """Prepares a package for the API pages once all of its modules are loaded."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Prepare a package."""
        _prepare(pkg, pkg)


def _prepare(entity: griffe.Object | griffe.Alias, package: griffe.Module) -> None:
    if isinstance(entity, griffe.Module) and entity is not package and entity.exports is not None:
        entity.exports = [str(name) for name in entity.exports if not entity.members[str(name)].is_alias]
    if isinstance(entity, griffe.Class) and "__init__" not in entity.members and _is_pydantic(entity):
        _add_constructor(entity)
    if entity.docstring is not None:
        entity.docstring.value = markdown(entity.docstring.value, _described(entity))
    for member in entity.members.values():
        if not member.is_alias:
            _prepare(member, package)


def _is_pydantic(model: griffe.Class) -> bool:
    bases = [str(base) for each in (model, *model.mro()) for base in each.bases]
    return any(base.rsplit(".", 1)[-1] == "BaseModel" for base in bases)


def _add_constructor(model: griffe.Class) -> None:
    """Give a pydantic model a constructor that takes its fields, as dataclasses have one."""
    fields: dict[str, griffe.Parameter] = {}
    for each in (*reversed(model.mro()), model):
        for name, member in each.members.items():
            annotation = member.annotation if isinstance(member, griffe.Attribute) else None
            no_field = name.startswith("_") or "property" in member.labels or "ClassVar" in str(annotation)
            if annotation is None or no_field:
                continue
            kind = griffe.ParameterKind.keyword_only
            fields[name] = griffe.Parameter(name, annotation=annotation, kind=kind, default=member.value)
    self = griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)
    model.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(self, *fields.values())))


def _described(entity: griffe.Object | griffe.Alias) -> set[str]:
    """Return the names that a docstring may describe: parameters, and the attributes of a class."""
    names = set(entity.members) if entity.is_class else set()
    if entity.is_function or entity.is_class:
        names |= {parameter.name.lstrip("*") for parameter in entity.parameters}
    return names


def markdown(text: str, names: set[str]) -> str:
    """Return a docstring as Markdown. names: the parameters and attributes that it may describe."""
    paragraphs = re.split(r"\n[ \t]*\n", text)
    return "\n\n".join(_paragraph(each, names) if _PLAIN.match(each) else _escaped(each) for each in paragraphs)


def _paragraph(text: str, names: set[str]) -> str:
    starts = [_SENTENCES]
    if names:
        name = "(?:" + "|".join(sorted(map(re.escape, names), key=len, reverse=True)) + ")"
        starts.append(rf"(?P<names>{name}(?:,\s{name})*):\s")
    blocks, end, label = [], 0, ""
    for start in re.finditer(rf"(?:^|(?<=[.;)])\s+)(?:{'|'.join(starts)})", text, re.MULTILINE):
        blocks.append(_block(label, text[end : start.start()]))
        found = start.groupdict().get("names")
        label, end = found or "", start.end() if found else start.start()
    blocks.append(_block(label, text[end:]))
    return "\n\n".join(block for block in blocks if block)


def _block(label: str, text: str) -> str:
    """Return an item of a list that describes the names in `label`, or plain text without one."""
    body = _escaped(text.strip())
    if not label:
        return body
    described = ", ".join(f"`{name}`" for name in re.split(r",\s", label))
    return f"- {described}: {body}".replace("\n", "\n  ")


def _escaped(text: str) -> str:
    parts = _CODE.split(text)
    for index in range(0, len(parts), 2):
        part = parts[index].replace("[", r"\[").replace("<", "&lt;")
        parts[index] = re.sub(r"(?<=\w)\*\*(?=\w)", r"\\*\\*", part)
    return "".join(parts)
