"""The network between one replica and the API server, which can be cut."""

import asyncio
import contextlib
from urllib.parse import urlsplit

CHUNK = 65536


class Wire:
    """A TCP relay. Cut, it swallows what is sent and accepts connections that nobody answers, as a lost route does."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._host, self._port = str(address.hostname), int(address.port or 0)
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self.cut = False

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._link, "127.0.0.1", 0)

    def lose(self) -> None:
        """From now on nothing arrives."""
        self.cut = True

    def mend(self) -> None:
        """Old connections are dead by now, new ones work."""
        self.cut = False
        for link in self._links:
            link.cancel()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        there: asyncio.StreamWriter | None = None
        try:
            if self.cut:
                await asyncio.Event().wait()
            back, there = await asyncio.open_connection(self._host, self._port)
            await self._relay_both(reader, there, back, writer)
        except (asyncio.CancelledError, OSError):
            pass  # the end of a connection, however it came
        finally:
            self._links.discard(task)
            for one in (writer, there):
                if one is not None:
                    one.close()

    async def _relay_both(
        self,
        reader: asyncio.StreamReader,
        there: asyncio.StreamWriter,
        back: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        ways = [asyncio.create_task(self._relay(*way)) for way in ((reader, there), (back, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _relay(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while chunk := await source.read(CHUNK):
            if self.cut:
                await asyncio.Event().wait()  # lost; neither end hears that the other has gone
            target.write(chunk)
            with contextlib.suppress(ConnectionError):
                await target.drain()
