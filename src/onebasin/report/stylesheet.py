"""The style sheet of the HTML page (light, dark, small screens, print), and the script that sorts its tables."""

from onebasin.report.plot_style import COLOURS


def _variables(theme: int) -> str:
    """Return the colours as CSS variables; `theme` is 0 for light, 1 for dark."""
    return "".join(f"--{name}:{colours[theme]};" for name, colours in COLOURS.items())


STYLE = (
    f"""
:root {{ color-scheme: light dark; {_variables(0)} --wash: #f4f6f8; }}
@media (prefers-color-scheme: dark) {{ :root {{ {_variables(1)} --wash: #1d2227; }} }}
@media print {{ :root {{ {_variables(0)} --wash: #fff; }} }}
"""
    + """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 5rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 3.5rem 0 .6rem; padding-top: 1.2rem;
  border-top: 2px solid var(--ink); }
h3 { font-size: 1.05rem; margin: 2.6rem 0 .4rem; }
p, li { max-width: 46rem; }
p { margin: .4rem 0 .8rem; text-wrap: pretty; }
small, .lead, .note, figcaption { color: var(--muted); }
small { font-size: .8rem; }
nav ul, ul.findings { padding-left: 1.2rem; }
a { color: var(--up); }
code, pre { font: .82rem/1.5 ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; }
code { overflow-wrap: anywhere; }
pre { background: var(--wash); padding: .9rem 1rem; overflow-x: auto; border-radius: 6px; margin: .6rem 0 1rem; }
.warnings { list-style: none; padding: .55rem .9rem; background: var(--wash); border-left: 3px solid var(--init);
  font-size: .9rem; max-width: 46rem; }
figure { margin: .8rem 0 1.6rem; }
figcaption { font-size: .88rem; max-width: 46rem; margin-top: .5rem; }
.scroll { overflow-x: auto; }
.plot > svg { display: block; width: 100%; height: auto; min-width: 30rem; }
.plot svg text { font-family: inherit !important; font-variant-numeric: tabular-nums; }
.withkey { display: grid; gap: .5rem 1.5rem; align-items: start; }
@media (min-width: 64rem) { .withkey { grid-template-columns: minmax(0, 1fr) 20rem; } }
@media screen and (max-width: 63.9rem) { .key { columns: 2 17rem; column-gap: 2rem; } }
.key { list-style: none; margin: 1.4rem 0 0; padding: 0; font-size: .86rem; line-height: 1.3; }
.key li { display: flex; gap: .55rem; align-items: baseline; padding: .17rem 0; break-inside: avoid; }
.key span { flex: 1; }
.key small { white-space: nowrap; font-variant-numeric: tabular-nums; }
.swatch { width: 2.1rem; height: .7rem; flex: none; vertical-align: baseline; }
table { border-collapse: collapse; font-size: .88rem; line-height: 1.35; font-variant-numeric: tabular-nums; }
.note { font-size: .85rem; margin-top: .6rem; }
th, td { padding: .45rem .7rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap;
  vertical-align: top; }
td small { display: block; }
table small { font-size: .88em; }
thead th { vertical-align: bottom; color: var(--muted); font-weight: 500; border-bottom: 1px solid var(--muted); }
th:first-child, .words th, .words td { text-align: left; }
.words td { white-space: normal; }
.words td:last-child { overflow-wrap: anywhere; min-width: 16rem; }
tbody th { font-weight: 500; position: sticky; left: 0; background: var(--paper); min-width: 12rem;
  white-space: normal; }
tbody th div { display: flex; gap: .6rem; align-items: baseline; }
tbody th small { display: block; font-weight: 400; }
tr.reference td:not([data-value]) { color: var(--muted); }
th button { all: unset; cursor: pointer; max-width: 8rem; display: inline-block; white-space: normal; }
th button:hover, th[aria-sort] button { color: var(--ink); }
th button:focus-visible { outline: 2px solid var(--up); outline-offset: 3px; }
th[aria-sort=ascending] button::after { content: " ↑"; }
th[aria-sort=descending] button::after { content: " ↓"; }
details { border-bottom: 1px solid var(--rule); }
summary { cursor: pointer; padding: .5rem 0; font-size: .92rem; }
.commands { list-style: none; padding: 0; margin: .2rem 0; font-size: .85rem; }
.commands li { max-width: none; }
.commands span { display: inline-block; min-width: 4.5rem; margin-right: .8rem; color: var(--muted); }
footer { margin-top: 4rem; color: var(--muted); font-size: .85rem; }
@media (max-width: 40rem) {
  body { padding: 1.4rem 1rem 3rem; }
  h1 { font-size: 1.5rem; }
  tbody th { min-width: 8.5rem; max-width: 9.5rem; }
  tbody th .swatch { display: none; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  figure, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; }
  .plot > svg { min-width: 0; }
  table { font-size: 7.5pt; }
  th, td { padding: .25rem .35rem; }
  .swatch { print-color-adjust: exact; }
}
"""
)

SCRIPT = """
for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, table = head.closest("table"), place = head.cellIndex;
    const up = head.getAttribute("aria-sort") === "descending" || (!head.ariaSort && place === 0);
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const number = cell => cell.dataset.value === undefined ? null : Number(cell.dataset.value);
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [a.cells[place], b.cells[place]], [m, n] = [number(x), number(y)];
      if (place === 0) return (up ? 1 : -1) * x.textContent.trim().localeCompare(y.textContent.trim());
      if (m === null || n === null) return (m === null) - (n === null);
      return (up ? 1 : -1) * (m - n);
    });
    table.tBodies[0].append(...rows);
  });
}
"""
