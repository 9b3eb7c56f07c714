from io import StringIO

import pytest
from rich.console import Console

from onebasin.report import ReportError, comparison_table, markdown_table, sections
from onebasin.report.columns import columns


def printed(records, width, **options):
    console = Console(file=StringIO(), width=width, color_system=None)
    console.print(comparison_table(records, **options))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_no_cell_is_cut_and_no_line_is_too_long(width, demo_runs):
    text = printed(demo_runs(more=True), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for arm in ("Signatures + int8 fragments", "Own inits, naive average"):
        assert any(arm in line and "±" in line for line in text.splitlines())


def test_a_hundred_characters_show_the_main_columns(demo_runs):
    text = printed(demo_runs(), 100)
    head = " ".join(text.splitlines()[1:3])
    for heading in ("final %", "total", "to 80%", "to 84%", "to 86%", "fewer than", "FedAvg fp32"):
        assert heading in head
    assert "best" not in head
    row = next(line for line in text.splitlines() if line.startswith("FedAvg int8"))
    assert "24.7 MB" in row
    assert "4.0×" in row


def test_references_send_no_bytes_and_the_data_size_is_shown(demo_runs):
    text = printed(demo_runs(), 100)
    assert "none" in next(line for line in text.splitlines() if line.startswith("Centralised"))
    assert "Training data, compressed: 26.4 MB." in text


def test_targets_reached_by_some_seeds_are_marked(make_run):
    ceilings = (0.9, 0.7, 0.9)
    runs = [make_run(seed=s, ceiling=c, targets=("0.80", "0.95")) for s, c in enumerate(ceilings)]
    row = next(line for line in printed(runs, 100).splitlines() if line.startswith("FedAvg fp32"))
    assert "(2/3)" in row
    assert "never" in row


def test_unfinished_runs_are_marked(make_run):
    assert "Slow (1 unfinished)" in printed([make_run(), make_run("Slow", done=2)], 100)


def test_two_tasks_are_two_tables_and_an_unknown_baseline_is_an_error(make_run):
    runs = [make_run(), make_run(dataset="mnist")]
    text = printed(runs, 100, baseline="FedAvg fp32")
    assert text.count("arm ") == 2
    with pytest.raises(ReportError, match="FedSGD"):
        comparison_table(runs, baseline="FedSGD")


def test_labels_are_not_read_as_markup(make_run):
    assert "[red]x[/red]" in printed([make_run("[red]x[/red]")], 100)


def test_markdown_has_every_column_and_no_stray_bar(make_run):
    section = sections([make_run("a|b"), make_run("c")])[0]
    text = markdown_table(section)
    lines = text.splitlines()
    assert len(lines) == 4
    assert "| a\\|b (1 seed) |" in text
    assert {line.replace("\\|", "").count("|") for line in lines} == {len(columns(section)) + 1}
    assert "multicast" in lines[0]
