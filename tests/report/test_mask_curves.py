import pytest

from onebasin.report.aggregate import sections
from onebasin.report.mask_curves import masks_figure


@pytest.fixture
def masked(make_run):
    run = make_run(rounds=3)
    for number, line in enumerate(run.history):
        line["masks"] = {
            "conv1": {"kept": 0.5 + 0.1 * number, "entropy": 1 - 0.2 * number},
            "a long name of a layer": {"kept": 0.5, "entropy": 0.9},
            "fc": {"kept": 0.5, "entropy": 0.9},
        }
    return run


def test_each_layer_is_a_line_and_so_is_the_size_of_the_replies(masked):
    section = sections([masked])[0]
    kept, bits = masks_figure(section).axes
    assert [list(line.get_ydata()) for line in kept.lines] == [pytest.approx([50, 60, 70]), [50.0] * 3, [50.0] * 3]
    assert bits.lines[0].get_ydata() == pytest.approx([1, 0.8, 0.6])
    sent, parameters = masked.history[0]["bytes"]["up"], masked.summary["parameters"]
    expected = 8 * sent / masked.history[0]["replies"] / parameters
    assert bits.lines[-1].get_ydata() == pytest.approx([expected] * 3)


def test_masks_without_probabilities_have_no_entropy(masked):
    for line in masked.history:
        line["masks"] = {layer: {"kept": mask["kept"]} for layer, mask in line["masks"].items()}
    kept, bits = masks_figure(sections([masked])[0]).axes
    assert (len(kept.lines), len(bits.lines)) == (3, 1)


def test_no_texts_overlap_or_leave_the_figure(masked):
    figure = masks_figure(sections([masked])[0])
    figure.canvas.draw()
    texts = [text for axes in figure.axes for text in axes.texts]
    boxes = [text.get_window_extent() for text in texts]
    assert len(boxes) == 7
    for index, box in enumerate(boxes):
        assert box.x1 <= figure.bbox.x1, texts[index].get_text()
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])


def test_no_figure_without_masks(demo):
    assert masks_figure(sections(demo)[0]) is None
