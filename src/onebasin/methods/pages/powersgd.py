"""PowerSGD: updates as products of two matrices of low rank, with error feedback.

Vogels, Karimireddy, Jaggi: PowerSGD: Practical Low-Rank Gradient Compression for Distributed Optimization. NeurIPS 2019
(arXiv 1905.13727), algorithms 1 and 2. Each client sends the factors of its own update; the server sends those of the
mean update.
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
