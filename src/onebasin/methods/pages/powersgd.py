"""PowerSGD: matrices as products of two thin ones, with error feedback.

Vogels, Karimireddy, Jaggi: PowerSGD: Practical Low-Rank Gradient Compression for Distributed Optimization. NeurIPS 2019
(arXiv 1905.13727), algorithms 1 and 2. Each client sends factors of its own; the server sends those of the mean.
"""

from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(
        name="powersgd",
        start="shared-seed",
        uplink="error-feedback | low-rank 2 | fp32",
        downlink="error-feedback | low-rank 2 | fp32",
    ),
    summary="Updates of rank 2 (Vogels et al. 2019).",
)
