"""DGC: the largest changes of each tensor, momentum and all, with what is not sent kept for later.

Lin, Han, Mao, Wang, Dally: Deep Gradient Compression: Reducing the Communication Bandwidth for Distributed Training.
ICLR 2018 (arXiv 1712.01887), algorithm 1: momentum correction and factor masking. The server's answer
is what all clients sent together: sparse, exact. A momentum of 0.9 adds up to ten times what was put in, so the server
takes a tenth of it: the rate is then that of FedAvg. The paper sends 0.1% of models with millions of parameters; of
small ones, 1% here.
"""

from onebasin.methods.aggregation.average import Average
from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(
        name="dgc",
        start="shared-seed",
        uplink="momentum-correction 0.9 | error-feedback | top-k 0.01 per=tensor | fp32",
        downlink="top-k 1.0 | fp32",
        combine=Average(rate=0.1),
    ),
    summary="Top-k with momentum correction and error feedback (Lin et al. 2018).",
)
