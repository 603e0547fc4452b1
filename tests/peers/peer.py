"""asyncio on the other side: `peer.py serve|connect KIND ...`. A server prints "ready PORT"; both print "ok" at the end."""

import asyncio
import ssl
import sys

SIZE = 3_000_000


def client_context(ca_file):
    return ssl.create_default_context(cafile=ca_file)


def server_context(certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


async def ask(reader, writer, over_tls):
    """The client's part of the dialogue."""
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"
    data = bytes(range(256)) * (SIZE // 256)
    writer.write(b"%d\n" % len(data) + data)
    await writer.drain()
    assert await reader.readexactly(len(data)) == data
    if not over_tls:
        writer.write_eof()
    else:
        writer.write(b"bye\n")
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def answer(reader, writer):
    """The server's part."""
    assert await reader.readline() == b"hello\n"
    writer.write(b"hello\n")
    size = int(await reader.readline())
    writer.write(await reader.readexactly(size))
    await writer.drain()
    assert await reader.readline() in (b"", b"bye\n")
    writer.close()
    await writer.wait_closed()


async def upgraded_answer(reader, writer, certificate):
    assert await reader.readline() == b"STARTTLS\n"
    writer.write(b"go ahead\n")
    await writer.drain()
    await writer.start_tls(server_context(certificate))
    await answer(reader, writer)


async def serve(kind, argument, certificate):
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    async def client_connected(reader, writer):
        try:
            if kind == "starttls":
                await upgraded_answer(reader, writer, certificate)
            else:
                await answer(reader, writer)
            done.set_result(None)
        except BaseException as e:
            done.set_exception(e)

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, address):
            self.transport.sendto(data, address)
            if data == b"bye":
                done.set_result(None)

    port = 0
    if kind == "udp":
        transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
    elif kind == "unix":
        await asyncio.start_unix_server(client_connected, argument)
    else:
        context = server_context(certificate) if kind == "tls" else None
        server = await asyncio.start_server(client_connected, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
    print("ready", port, flush=True)
    await done


async def connect(kind, argument, ca_file):
    loop = asyncio.get_running_loop()
    if kind == "udp":
        answers = asyncio.Queue()

        class Collect(asyncio.DatagramProtocol):
            def datagram_received(self, data, address):
                answers.put_nowait(data)

        transport, _ = await loop.create_datagram_endpoint(Collect, remote_addr=("127.0.0.1", int(argument)))
        for message in [b"one", b"x" * 50_000]:
            transport.sendto(message)
            assert await answers.get() == message
        transport.close()
    elif kind == "unix":
        await ask(*await asyncio.open_unix_connection(argument), over_tls=False)
    elif kind == "tls":
        context = client_context(ca_file)
        await ask(
            *await asyncio.open_connection("127.0.0.1", int(argument), ssl=context, server_hostname="localhost"),
            over_tls=True,
        )
        try:
            await asyncio.open_connection("127.0.0.1", int(argument), ssl=context, server_hostname="wrong.test")
        except ssl.SSLCertVerificationError:
            pass
        else:
            raise AssertionError("a wrong name was accepted")
    elif kind == "starttls":
        reader, writer = await asyncio.open_connection("127.0.0.1", int(argument))
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go ahead\n"
        await writer.start_tls(client_context(ca_file), server_hostname="localhost")
        await ask(reader, writer, over_tls=True)
    else:
        await ask(*await asyncio.open_connection("127.0.0.1", int(argument)), over_tls=False)


async def main():
    role, kind, argument, file = sys.argv[1:]
    await (serve if role == "serve" else connect)(kind, argument, file)
    print("ok", flush=True)


asyncio.run(main())
