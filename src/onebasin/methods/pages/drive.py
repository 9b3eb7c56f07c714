"""DRIVE: updates are rotated at random and sent with one bit per value.

Vargaftik, Ben-Basat, Portnoy, Mendelson, Ben-Itzhak, Mitzenmacher: DRIVE: One-bit Distributed Mean Estimation. NeurIPS
2021 (arXiv 2105.08339), algorithm 1 with the Hadamard transform. With more bits per value it is EDEN (ICML 2022, arXiv
2108.08842): ``method.uplink="hadamard | eden 2"``. As in the paper, the downlink is not compressed.
"""

from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="drive", start="shared-seed", uplink="hadamard | eden 1"),
    summary="One bit per value after a random rotation (Vargaftik et al. 2021).",
)
