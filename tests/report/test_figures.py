import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebasin.report.aggregate import sections
from onebasin.report.arms import ReportError
from onebasin.report.bars import bytes_figure
from onebasin.report.curves import frontier_figure, mean_curve, rounds_figure, spread_apart
from onebasin.report.figures import save_png, svg_text
from onebasin.report.holdings import holdings_figure
from onebasin.report.plot_style import COLOURS, arm_styles
from onebasin.report.scales import clip_accuracy


@pytest.fixture
def section(demo):
    return sections(demo)[0]


def texts(figure):
    figure.canvas.draw()
    found = [text for axes in figure.axes for text in axes.findobj(lambda a: hasattr(a, "get_text"))]
    return [text for text in [*found, *figure.texts] if text.get_text() and text.get_visible()]


def test_curve_is_the_mean_and_sd_at_rounds_that_every_seed_evaluated(make_run):
    first, second = make_run(seed=0, rounds=3), make_run(seed=1, rounds=3)
    for run, scores in ((first, (0.2, None, 0.6)), (second, (0.4, 0.5, 0.8))):
        for line, score in zip(run.history, scores, strict=True):
            line["accuracy"] = score
    curve = mean_curve(sections([first, second])[0].arms[0])
    np.testing.assert_array_equal(curve.rounds, [1, 3])
    np.testing.assert_allclose(curve.accuracy, [0.3, 0.7])
    np.testing.assert_allclose(curve.sd, np.sqrt([0.02, 0.02]))
    np.testing.assert_array_equal(curve.total_bytes, [4_936_480, 3 * 4_936_480])


def test_no_band_for_one_seed_and_no_curve_without_a_score(make_run):
    assert mean_curve(sections([make_run()])[0].arms[0]).sd is None
    assert mean_curve(sections([make_run(done=0)])[0].arms[0]) is None


def test_frontier_starts_with_the_bytes_after_round_one(section):
    axes = frontier_figure(section).axes[0]
    starts = {float(line.get_xdata()[0]) for line in axes.lines if len(line.get_xdata()) == 20}
    assert 4_936_480 in starts
    assert axes.get_xscale() == "log"


def test_a_round_zero_is_left_out_of_the_frontier_only(make_run):
    run = make_run()
    zero = run.history[0]["bytes"] | {"total": 0}
    run.history.insert(0, run.history[0] | {"round": 0, "accuracy": 0.1, "bytes": zero})
    section = sections([run])[0]
    assert len(frontier_figure(section).axes[0].lines[0].get_xdata()) == 20
    assert len(rounds_figure(section).axes[0].lines[0].get_xdata()) == 21


def test_frontier_names_references_and_the_data(section):
    words = " ".join(text.get_text() for text in texts(frontier_figure(section)))
    for name in ("Centralised", "Local only", "the training data itself, compressed: 26.4 MB", "FedAvg int8"):
        assert name in words
    assert "FedAvg int8" not in " ".join(text.get_text() for text in texts(frontier_figure(section, legend=False)))


@pytest.mark.parametrize("draw", [frontier_figure, rounds_figure, bytes_figure])
def test_no_texts_overlap_or_leave_the_figure_with_eighteen_arms(draw, demo_runs):
    figure = draw(sections(demo_runs(seeds=2, more=True))[0])
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    for index, (text, box) in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0, text
        assert box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0, text
        assert box.y1 <= figure.bbox.y1, text
        overlapping = [other for other, other_box in boxes[index + 1 :] if box.overlaps(other_box)]
        assert not overlapping, (text, overlapping)


def test_styles_are_the_same_in_every_figure_and_differ_between_arms(demo_runs):
    arms = sections(demo_runs(seeds=1, more=True))[0].arms
    styles = arm_styles(arms)
    assert styles == arm_styles(reversed(arms))
    federated = [styles[arm.label] for arm in arms if not arm.is_reference]
    assert len(set(federated)) == len(federated) == 16
    assert {styles[arm.label].colour_name for arm in arms if arm.is_reference} == {"reference"}


def test_colours_are_distinct_so_that_each_becomes_its_own_variable():
    assert len({colour for colour, _ in COLOURS.values()}) == len(COLOURS)


def test_svg_is_the_same_twice_well_formed_and_follows_the_theme(section):
    first, second = (svg_text(frontier_figure(section), "one") for _ in range(2))
    assert first == second
    ElementTree.fromstring(first)
    assert "var(--arm0, " in first
    assert not re.search(r"\d{4}-\d\d-\d\d", first)
    ids = set(re.findall(r' id="([^"]+)"', first))
    assert ids.isdisjoint(re.findall(r' id="([^"]+)"', svg_text(frontier_figure(section), "two")))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', first)) <= ids


def test_perfect_accuracy_and_a_single_round_can_be_drawn(tmp_path, make_run):
    run = make_run(rounds=1)
    run.history[0]["accuracy"] = 1.0
    section = sections([run])[0]
    for draw in (frontier_figure, rounds_figure):
        assert save_png(draw(section), tmp_path / "figure.png", dpi=50).stat().st_size > 1000
    assert clip_accuracy(1.0) < 1.0


def test_low_accuracies_keep_a_plain_axis(make_run):
    section = sections([make_run(ceiling=0.5, first=0.2)])[0]
    assert rounds_figure(section).axes[0].get_yscale() == "linear"


def test_bars_of_one_arm_add_up_to_its_total(section):
    scaled, shares = bytes_figure(section).axes
    assert sum(bar.get_width() for bar in shares.patches) == pytest.approx(600.0)
    int8 = [arm.label for arm in section.arms if not arm.is_reference].index("FedAvg int8")
    widths = [bar.get_width() for bar in scaled.patches if round(bar.get_y() + bar.get_height() / 2) == int8]
    assert sum(widths) == 20 * 2 * 618_400


def test_no_bars_before_a_run_is_finished(make_run):
    assert bytes_figure(sections([make_run(done=3)])[0]) is None


@given(st.lists(st.floats(0, 1), max_size=8).map(sorted), st.floats(0.01, 0.3))
def test_names_are_moved_apart_and_those_with_room_stay(heights, gap):
    moved = spread_apart(heights, gap)
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(moved))
    if all(b - a >= gap for a, b in pairwise(heights)):
        assert moved == pytest.approx(heights)


def test_two_touching_names_move_equally():
    assert spread_apart([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])


def test_bubble_area_is_proportional_to_the_count():
    figure = holdings_figure(["a", "b"], [[100, 25], [0, 50]])
    (bubbles,) = figure.axes[0].collections
    sizes = dict(zip(map(tuple, bubbles.get_offsets().tolist()), bubbles.get_sizes(), strict=True))
    assert set(sizes) == {(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)}
    assert sizes[0.0, 0.0] / sizes[0.0, 1.0] == pytest.approx(4.0)


@pytest.mark.parametrize(("clients", "classes"), [(1, 2), (10, 10), (21, 6), (100, 10), (40, 65)])
def test_holdings_stay_inside_the_picture_and_names_apart(clients, classes):
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 500, (clients, classes)).tolist()
    figure = holdings_figure([f"class {k}" for k in range(classes)], counts)
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    for index, (text, box) in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0, text
        assert box.x1 <= figure.bbox.x1, text
        assert not [other for other, other_box in boxes[index + 1 :] if box.overlaps(other_box)], text


def test_holdings_that_do_not_fit_are_refused():
    with pytest.raises(ReportError, match="client 1 has 3 counts for 2 classes"):
        holdings_figure(["a", "b"], [[1, 2], [1, 2, 3]])
    with pytest.raises(ReportError, match="0 clients"):
        holdings_figure(["a"], [])
