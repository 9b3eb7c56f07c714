from itertools import combinations

import numpy as np
import pytest

from onebasin.report.plot_style import COLOURS

# Machado, Oliveira, Fernandes (2009): full deuteranopia and protanopia, on linear RGB.
DEUTERANOPIA = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))
PROTANOPIA = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
RGB_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.9505, 1.0, 1.089])
ARMS = [name for name in COLOURS if name.startswith("arm")]


def linear(colour):
    channels = np.array([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    x, y, z = np.cbrt(np.maximum(RGB_TO_XYZ @ np.clip(rgb, 0, 1) / WHITE, 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("vision", [np.eye(3), DEUTERANOPIA, PROTANOPIA], ids=["usual", "deuteranopia", "protanopia"])
def test_arms_can_be_distinguished_by_colour(theme, vision):
    perceived = {name: lab(np.array(vision) @ linear(COLOURS[name][theme])) for name in ARMS}
    distance, *pair = min((np.linalg.norm(perceived[a] - perceived[b]), a, b) for a, b in combinations(ARMS, 2))
    assert distance > 10, pair


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_lines_and_text_contrast_with_the_background(theme):
    luminance = {name: float(RGB_TO_XYZ[1] @ linear(colours[theme])) for name, colours in COLOURS.items()}
    for name, least in ({"ink": 7.0, "muted": 4.5, "reference": 3.0} | dict.fromkeys(ARMS, 2.3)).items():
        dark, light = sorted((luminance[name], luminance["paper"]))
        assert (light + 0.05) / (dark + 0.05) >= least, name
