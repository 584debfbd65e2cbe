"""`swarm-probe status --data` and `swarm-probe forget`: ask the collector what it stores about this machine.

It uses a connection of its own, proven with the node's key; a running probe is not disturbed.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from websockets.exceptions import WebSocketException

from swarm_probe.collector_client.certificate_pinning import Certificates, OldCollector
from swarm_probe.collector_client.dial import dial
from swarm_probe.collector_client.join_url import collector_of
from swarm_probe.collector_client.websocket import Opening, open_websocket
from swarm_protocol.messages.codec import MAX_MESSAGE_BYTES, DecodeError, encode
from swarm_protocol.messages.probe_messages import AboutMe, AboutYou, Refused, decode_from_collector
from swarm_protocol.text import safe
from swarm_protocol.trust import certificate_pins
from swarm_protocol.trust.identity import load_or_create_node_key
from swarm_protocol.trust.signing import SigningError, sign_elsewhere

WITHIN_S: Final = 120.0  # forgetting scans the whole store


class AboutError(Exception):
    """No answer; one line."""


def ask(url: str, folder: Path, key_file: Path, *, forget: bool) -> list[str]:
    """Return the collector's lines. Raises AboutError, and IdentityError for a key that cannot be read."""
    key = load_or_create_node_key(key_file, tuple)

    async def talk() -> list[str]:
        who = collector_of(url)
        certificates = Certificates(who, folder, print, tls=url.startswith("wss:"))
        async with asyncio.timeout(WITHIN_S):
            dialled = await dial(url, WITHIN_S)
            if dialled is not None:
                dialled.seen.close()
            how = Opening(url, certificates.context(), MAX_MESSAGE_BYTES)
            async with await open_websocket(how, None, dialled.own if dialled is not None else None) as ws:
                handshake = certificates.handshake(ws)
                message = handshake.signed("forget" if forget else "show")
                public, proof = await asyncio.to_thread(sign_elsewhere, key.seed, message)
                asked = AboutMe(public_key=public, proof=proof, bound_to=handshake.bound_to, forget=forget)
                await ws.send(encode(asked))
                answer = decode_from_collector(await ws.recv(decode=False))
        if isinstance(answer, Refused):
            raise AboutError(f"{who} refuses: {safe(answer.reason)}")
        if not isinstance(answer, AboutYou):
            raise AboutError(f"{who} is of an older version without this request; update it")
        return [safe(line, 300) for line in answer.lines]

    try:
        return asyncio.run(talk())
    except TimeoutError as error:
        raise AboutError(f"{collector_of(url)} did not answer; try again later") from error
    except (OldCollector, SigningError) as error:
        raise AboutError(str(error)) from error
    except (OSError, WebSocketException, DecodeError, ValueError, certificate_pins.PinError) as error:
        raise AboutError(f"cannot ask {collector_of(url)} ({safe(str(error), 160)}); is it there?") from error
