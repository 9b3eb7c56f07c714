"""Runs leave what they left when their traces were recorded: the same bytes, messages and weights, bit for bit.

``pytest tests/golden --rewrite-traces`` records them anew; a commit that changes one says why.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.golden.compositions import every
from tests.golden.record import FIXED

TRACES = Path(__file__).parent / "traces"
GROUPS = 4


@pytest.mark.parametrize("group", range(GROUPS))
def test_runs_leave_what_their_traces_say(group: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    names = sorted(every())[group::GROUPS]
    rewritten = request.config.getoption("--rewrite-traces")
    folder = TRACES if rewritten else tmp_path
    folder.mkdir(exist_ok=True)
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-m", "tests.golden.record", str(folder), *names], check=True, cwd=root, env=os.environ | FIXED
    )
    for name in names:
        found, expected = (json.loads((place / f"{name}.json").read_text()) for place in (folder, TRACES))
        assert found == expected, name
