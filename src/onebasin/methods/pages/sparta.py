"""SPARTA: in each round the clients average a small random part of their weights, the same part for all.

Baioumy, Cheema (EXO Labs): SPARTA. 2025. There, each client keeps the rest of its weights; here, clients start each
round from the global model, so that changes which were not sent must be learned again. The part follows from the seed.
"""

from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(
        name="sparta",
        start="shared-seed",
        uplink="random-k 0.1 shared=true | fp16",
        downlink="random-k 0.1 shared=true | fp32",
    ),
    summary="A random part of the weights, the same for all clients (EXO Labs 2025).",
)
