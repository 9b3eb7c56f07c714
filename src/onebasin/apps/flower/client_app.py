"""The app of a node. Flower starts it anew for each message."""

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from onebasin.apps.flower.node import Node
from onebasin.apps.flower.records import read_record, write_record
from onebasin.apps.flower.settings import read_settings
from onebasin.core.clients import Failure

app = ClientApp()


@app.query()
def introduce(message: Message, context: Context) -> Message:
    """Say whom this node holds."""
    return Message(write_record(Node.read(context.node_config).client, "", b""), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer an order."""
    node = Node.read(context.node_config)
    client, mark, order = read_record(message.content)
    content: bytes | Failure
    if client != node.client or isinstance(order, Failure):
        content = Failure(f"the order is not for client {node.client}, whom this node holds")
    else:
        content, mark = node.answer(read_settings(context.run_config).config, order, mark)
    return Message(write_record(node.client, mark, content), reply_to=message)
