"""Make files such as devices would have: one that all know, and one for each of three nodes of `federation`."""

from pathlib import Path

import numpy as np

SIZES = {"test": 300, "federation/node0/own": 400, "federation/node1/own": 200, "federation/node2/own": 100}

rng = np.random.default_rng(0)
centres = rng.normal(size=(3, 12))
for name, size in SIZES.items():
    targets = rng.integers(3, size=size)
    inputs = centres[targets] + rng.normal(size=(size, 12))
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    np.savez(name, inputs=inputs.astype(np.float32), targets=targets)
