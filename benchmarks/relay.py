"""A TCP relay that counts what passes, for what a framework adds to our payload: between a node and its SuperLink, say.

``python -m benchmarks.relay 127.0.0.1:8001 127.0.0.1:8000`` prints a line of JSON with the sums so far whenever it gets
SIGUSR1, and when it is stopped. up: from those who connect; down: to them. TCP's and IP's own headers are not in it.
"""

import asyncio
import json
import signal
import sys
import time
from collections import Counter


class Relay:
    """Takes connections and passes their bytes on to `target`, both ways."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self.sums: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection until either side ends it."""
        self.sums["connections"] += 1
        onward, back = await asyncio.open_connection(*self._target)
        await asyncio.gather(self._pass(reader, back, "up"), self._pass(onward, writer, "down"))

    def report(self) -> None:
        """Print the sums so far."""
        print(json.dumps({"at": round(time.time(), 3), **self.sums}), flush=True)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, direction: str) -> None:
        try:
            while piece := await source.read(1 << 16):
                self.sums[direction] += len(piece)
                sink.write(piece)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            sink.close()


def address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


async def main(listen: str, target: str) -> None:
    relay = Relay(address(target))
    server = await asyncio.start_server(relay.serve, *address(listen))
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, relay.report)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    server.close()
    relay.report()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
