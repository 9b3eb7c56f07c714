"""The app of a node. Flower starts a new process of it for each message."""

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from onebasin.apps.flower.node import Node
from onebasin.apps.flower.records import read_record, write_record
from onebasin.apps.flower.settings import read_settings
from onebasin.core.clients import Failure

app = ClientApp()


@app.query()
def report_client(message: Message, context: Context) -> Message:
    """Reply which client this node has."""
    return Message(write_record(Node.read(context.node_config).client, "", b""), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Reply to a request of the run's server."""
    node = Node.read(context.node_config)
    client, digest, request = read_record(message.content)
    content: bytes | Failure
    if client != node.client or isinstance(request, Failure):
        content = Failure(f"the order is not for client {node.client}, whom this node holds")
    else:
        content, digest = node.answer(read_settings(context.run_config).config, request, digest)
    return Message(write_record(node.client, digest, content), reply_to=message)
