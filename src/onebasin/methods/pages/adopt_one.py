"""Adopt one client's model: the honest rival of every alignment from own initialisations.

All clients train from their own weights in round 1 and report their numbers of examples; the server fetches the one
model trained on the most, and from then on FedAvg continues from it. What the others learned in round 1 is lost.
"""

from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="adopt-one", start="local", frame="adopt-one"),
    summary="Own inits; take the model of the client with the most data, then FedAvg.",
)
