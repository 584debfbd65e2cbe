"""What may be published of a recording: figures, and nobody's name."""

from __future__ import annotations

from collections.abc import AsyncIterator

from swarmtop.text.pseudonyms import Pseudonyms

LINK = "time,src,dst,rtt_p50_ms\n2026-11-23T14:00:00.000000Z,attic,kiln,12.5\n"
EVENT = "time,node,kind,detail\n2026-11-23T14:00:00.000000Z,attic,name_changed,was alices-pc\n"


async def _pieces(*pieces: str) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece


async def rewritten(pseudonyms: Pseudonyms, *pieces: str) -> str:
    return "".join([piece async for piece in pseudonyms.rewrite(_pieces(*pieces))])


async def test_one_node_has_one_pseudonym_in_all_files_and_another_in_the_next_export() -> None:
    pseudonyms = Pseudonyms()
    head, row = LINK.splitlines(keepends=True)
    links, events = await rewritten(pseudonyms, head, row, row), await rewritten(pseudonyms, EVENT)
    attic = pseudonyms.of("attic")
    assert links.splitlines()[1:] == [f"2026-11-23T14:00:00.000000Z,{attic},{pseudonyms.of('kiln')},12.5"] * 2
    assert events.splitlines()[1] == f"2026-11-23T14:00:00.000000Z,{attic},name_changed,"
    assert Pseudonyms().of("attic") != attic
    assert not any(name in links + events for name in ("attic,", "kiln", "alice"))
