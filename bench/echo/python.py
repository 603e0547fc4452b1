"""python.py PORT streams|protocol [--uvloop] [CERTIFICATE]"""

import asyncio
import ssl
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
    port, how, *rest = [arg for arg in sys.argv[1:] if not arg.startswith("--")]
    loop = asyncio.get_running_loop()
    options = {"backlog": 4096}
    for certificate in rest:
        options["ssl"] = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        options["ssl"].load_cert_chain(certificate)
    if how == "streams":
        server = await asyncio.start_server(on_client, "127.0.0.1", int(port), **options)
    else:
        server = await loop.create_server(Echo, "127.0.0.1", int(port), **options)
    await server.serve_forever()


run(serve)
