"""DRIVE: updates in one bit a value, after a random rotation.

Vargaftik, Ben-Basat, Portnoy, Mendelson, Ben-Itzhak, Mitzenmacher: DRIVE: One-bit Distributed Mean Estimation. NeurIPS
2021 (arXiv 2105.08339), algorithm 1 with the Hadamard transform; more bits are EDEN (ICML 2022, arXiv 2108.08842):
``method.uplink="hadamard | eden 2"``. The downlink is not coded, as there.
"""

from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="drive", start="shared-seed", uplink="hadamard | eden 1"),
    summary="One bit a value after a random rotation (Vargaftik et al. 2021).",
)
