"""STC: the largest changes, as -m or m, in both directions, with error feedback at both ends.

Sattler, Wiedemann, Mueller, Samek: Robust and Communication-Efficient Federated Learning from Non-IID Data. IEEE TNNLS
2019 (arXiv 1903.02891), algorithms 1 and 2, sparsity 1/400. Places are range-coded here, not Golomb-coded; clients that
were away are sent what was said meanwhile, as in the paper's section V.B, or the model where that is shorter.
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
