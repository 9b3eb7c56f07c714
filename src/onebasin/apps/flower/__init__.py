"""Running on Flower: the apps that a SuperLink and its nodes start, and the way to hand a run over to them."""
