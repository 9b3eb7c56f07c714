"""SPARTA: in each round the clients average a small random part of their weights, the same for all.

Baioumy, Cheema (EXO Labs): SPARTA. 2025. There the rest of the weights stays with each client; here clients begin each
round from one model, and what was not sent is learned again. Which part it is, the seed tells.
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
    summary="A random part of the weights, the same for all (EXO Labs 2025).",
)
