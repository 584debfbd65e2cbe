"""Why a connection failed, in the same words whichever library tried."""

from __future__ import annotations

import asyncio
import errno
import socket
import urllib.error
import urllib.request

import aiohttp
import pytest

from swarmtop.text.connection_failure import why_unreachable

NOBODY = "http://127.0.0.1:1/"


async def of_aiohttp(url: str) -> Exception:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError) as caught:
            await session.get(url)
    return caught.value


async def of_asyncio() -> Exception:
    with pytest.raises(OSError) as caught:
        await asyncio.open_connection("localhost", 1)
    return caught.value


def of_urllib(url: str) -> Exception:
    with pytest.raises(urllib.error.URLError) as caught:
        urllib.request.urlopen(url, timeout=5)
    return caught.value


def test_nobody_listens_is_refused() -> None:
    for error in (asyncio.run(of_aiohttp(NOBODY)), asyncio.run(of_asyncio()), of_urllib(NOBODY)):
        assert why_unreachable(error) == "refused"


def test_a_name_that_nobody_knows_is_called_so() -> None:
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert why_unreachable(unknown) == "unknown host name"
    assert why_unreachable(urllib.error.URLError(unknown)) == "unknown host name"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EHOSTUNREACH, "x"), "no route to host"),
        (OSError("Multiple exceptions: [Errno 113] Connect call failed, [Errno 113] again"), "no route to host"),
        (ValueError("odd\x1b[31m words"), "odd?[31m words"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_the_systems_words_or_the_errors_own_cleaned(error: Exception, said: str) -> None:
    assert why_unreachable(error) == said
