import pytest

from onebasin.report import ReportError
from onebasin.report.typeset.markdown import markdown_piece

PAGE = """# Title

Intro with *em*, **strong `code`** and a
[page](other.md), [the web](https://x.org/a).

## One

- a
- b

| h | i |
|---|---:|
| 1 | **2** |

## Two

```
x = 1
```
"""


def test_blocks_and_inline_content():
    blocks = markdown_piece(PAGE)["blocks"]
    assert [block["kind"] for block in blocks] == ["paragraph", "heading", "list", "table", "heading", "code"]
    parts = blocks[0]["parts"]
    assert [part["kind"] for part in parts] == [
        "text",
        "em",
        "text",
        "strong",
        "text",
        "break",
        "text",
        "text",
        "link",
        "text",
    ]
    assert parts[3]["parts"] == [{"kind": "text", "text": "strong "}, {"kind": "code", "text": "code"}]
    assert parts[8] == {"kind": "link", "to": "https://x.org/a", "parts": [{"kind": "text", "text": "the web"}]}
    assert blocks[1] == {"kind": "heading", "level": 1, "parts": [{"kind": "text", "text": "One"}]}
    assert blocks[2]["items"][1] == [{"kind": "paragraph", "parts": [{"kind": "text", "text": "b"}]}]
    assert blocks[3]["head"] == [[{"kind": "text", "text": "h"}], [{"kind": "text", "text": "i"}]]
    assert blocks[3]["rows"][0][1] == [{"kind": "strong", "parts": [{"kind": "text", "text": "2"}]}]
    assert blocks[5] == {"kind": "code", "text": "x = 1"}


def test_sections_are_taken_or_left_out_by_name():
    assert [block["kind"] for block in markdown_piece(PAGE, ["Two"])["blocks"]] == ["code"]
    assert [block["kind"] for block in markdown_piece(PAGE, without=["One"])["blocks"]] == [
        "paragraph",
        "heading",
        "code",
    ]
    with pytest.raises(ReportError, match="no section 'Three'; there are: 'One', 'Two'"):
        markdown_piece(PAGE, ["Three"])


def test_an_unknown_kind_of_block_is_named():
    with pytest.raises(ReportError, match="blockquote"):
        markdown_piece("> said\n")
