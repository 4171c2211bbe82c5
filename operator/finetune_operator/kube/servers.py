"""aiohttp applications on ports of their own, opened and closed with the runtime."""

import asyncio
import ssl
from dataclasses import dataclass

from aiohttp import web

READ_BUFFER_BYTES = 16 * 1024
"""Of a connection, before anybody has asked for what it sends; aiohttp takes twice as much before it stops reading."""


@dataclass
class Server:
    """One application on one port; port 0 takes a free one, `port` tells which after `start`."""

    app: web.Application
    port: int
    host: str | None = None
    tls: ssl.SSLContext | None = None
    drain_seconds: float = 5.0
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        self._runner = web.AppRunner(
            self.app, access_log=None, shutdown_timeout=self.drain_seconds, read_bufsize=READ_BUFFER_BYTES
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, ssl_context=self.tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Stops listening, lets open requests finish for `drain_seconds`."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


async def close_all(servers: list[Server]) -> None:
    await asyncio.gather(*(server.close() for server in servers))
