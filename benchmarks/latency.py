"""A TCP proxy that lets everything through, requests so many milliseconds later: the distance of a real cloud.

    python -m benchmarks.latency UPSTREAM_PORT MILLISECONDS

prints its port, and runs until it is killed.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys

_CHUNK_BYTES = 1 << 18


class LatencyProxy:
    """The proxy in a process of its own."""

    def __init__(self, url: str, milliseconds: int) -> None:
        upstream = url.rpartition(":")[2]
        command = [sys.executable, "-m", "benchmarks.latency", upstream, str(milliseconds)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
        assert self._process.stdout is not None  # noqa: S101
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def close(self) -> None:
        """Stop it."""
        self._process.kill()
        self._process.wait()


async def _serve(upstream: int, seconds: float) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", upstream)
        await asyncio.gather(_later(reader, there_writer, seconds), _later(there_reader, writer, 0))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=_CHUNK_BYTES)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    async with server:
        await server.serve_forever()


async def _later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Pass on what comes, each piece so many seconds after it came, in order."""
    loop = asyncio.get_running_loop()
    try:
        while chunk := await reader.read(_CHUNK_BYTES):
            if seconds:
                loop.call_later(seconds, writer.write, chunk)
            else:
                writer.write(chunk)
                await writer.drain()
        loop.call_later(seconds, writer.close)
    except OSError:
        writer.close()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]) / 1000))
