"""STC: the largest values of each update as -m or m, with error feedback, in both directions.

Sattler, Wiedemann, Mueller, Samek: Robust and Communication-Efficient Federated Learning from Non-IID Data. IEEE TNNLS
2019 (arXiv 1903.02891), algorithms 1 and 2, sparsity 1/400. Positions are range-coded here, not Golomb-coded. A client
that was absent catches up with the deltas since its version, as in section V.B of the paper, or with the whole model
where that is shorter.
"""

from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(
        name="stc",
        start="shared-seed",
        uplink="error-feedback | top-k 0.0025 | sign",
        downlink="error-feedback | top-k 0.0025 | sign",
    ),
    summary="Sparse ternary compression, both ways (Sattler et al. 2019).",
)
