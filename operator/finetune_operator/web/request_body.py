"""The body of a request that somebody unknown may have sent: bounded in time, as the application bounds its size."""

import asyncio

from aiohttp import web

READ_SECONDS = 5.0
"""For the whole of it."""


async def read_body(request: web.Request) -> bytes:
    """Raises 408 when it takes too long, 413 when it is too large, 400 when the client goes away.

    aiohttp would log each of the last with a traceback: who wants to fill a log need only hang up.
    """
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await request.read()
    except TimeoutError as error:
        raise web.HTTPRequestTimeout(text=f"the request did not arrive within {READ_SECONDS:g} s") from error
    except ConnectionError as error:
        raise web.HTTPBadRequest(text="the request broke off") from error
