"""A device that runs a client imports neither symmetry nor alignment, data readers or reports."""

import subprocess
import sys

LOADED = "import sys; print(*(name for name in sys.modules if name.split('.')[0] == 'onebasin'))"

CLIENT = """
import torch
from onebasin.core.state import State
from onebasin.federation.client.client import Client
from onebasin.federation.read_config import read_config
from onebasin.learning.data.examples import Dataset, Split
from onebasin.learning.task import Task

config = read_config("onebasin", ["task.clients=2", "task.partition=own", "engine=flower", "task.model.hidden=[4]"])
split = Split(torch.randn(30, 4), torch.arange(30) % 3)
data = Dataset("own", split, split, ("a", "b", "c"), (), 0, "a device")
client = Client(config, Task(data, [torch.arange(30)] * 2, "mlp", {"hidden": [4]}))
request = client.protocol.write(1, SERVER, [write_request(Request.TRAIN | Request.KEEP_MODEL)])
state, reply = client.finish(State(), client.train(client.begin(1, State(), request)))
assert reply and "weights" in state.slots
"""
MESSAGES = """
from onebasin.federation.messages import Request, write_request
from onebasin.wire.message import SERVER
"""


def loaded_by(code: str) -> set[str]:
    """Return the names of the package's modules that a new process has after running some code."""
    ran = subprocess.run([sys.executable, "-c", code + "\n" + LOADED], check=True, capture_output=True, text=True)
    return set(ran.stdout.split())


def require_a_device(modules: set[str]) -> None:
    """Require that nothing of a server, a data reader or a report is loaded."""
    rooms = ("symmetry", "alignment", "report", "results", "learning.data.sources", "federation.server")
    foreign = [name for name in modules if name.startswith(tuple(f"onebasin.{room}" for room in rooms))]
    assert not foreign, foreign


def test_the_client_is_at_most_sixty_modules() -> None:
    modules = loaded_by("import onebasin.federation.client.client")
    require_a_device(modules)
    assert len(modules) <= 60, sorted(modules)


def test_a_client_that_answers_a_request_loads_nothing_of_a_server() -> None:
    modules = loaded_by(MESSAGES + CLIENT)
    require_a_device(modules)
    assert len(modules) <= 100, sorted(modules)


def test_a_node_of_flower_loads_no_reader_before_it_knows_its_data() -> None:
    require_a_device(loaded_by("import onebasin.apps.flower.node"))
