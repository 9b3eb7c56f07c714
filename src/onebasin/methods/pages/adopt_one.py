"""Adopt one client's model: the baseline for every method that aligns models from own initialisations.

In round 1 all clients train their own initialisation and report their numbers of examples. The server requests the
model of the client with the most examples, and makes it the global model. FedAvg continues from it; what the other
clients learned in round 1 is lost.
"""

from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="adopt-one", start="local", frame="adopt-one"),
    summary="Own initialisations; take the model of the client with the most data, then FedAvg.",
)
