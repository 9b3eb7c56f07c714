"""DGC: the largest changes of each tensor, momentum and all, with what is not sent kept for later.

Lin, Han, Mao, Wang, Dally: Deep Gradient Compression: Reducing the Communication Bandwidth for Distributed Training.
ICLR 2018 (arXiv 1712.01887), algorithm 1: sparsity 99.9%, momentum correction and factor masking. The server's answer
is what all clients sent together: sparse, exact.
"""

from onebasin.choices import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(
        name="dgc",
        start="shared-seed",
        uplink="momentum-correction 0.9 | error-feedback | top-k 0.001 per=tensor | fp32",
        downlink="top-k 1.0 | fp32",
    ),
    summary="Top-k with momentum correction and error feedback (Lin et al. 2018).",
)
