"""python.py PORT streams|protocol [--uvloop]"""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
from bench import run


async def on_client(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.write = transport.write

    def data_received(self, data):
        self.write(data)


async def serve():
    port, how = int(sys.argv[1]), sys.argv[2]
    loop = asyncio.get_running_loop()
    if how == "streams":
        server = await asyncio.start_server(on_client, "127.0.0.1", port, backlog=4096)
    else:
        server = await loop.create_server(Echo, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


run(serve)
