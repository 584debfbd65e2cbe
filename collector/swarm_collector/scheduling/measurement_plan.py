"""Decide which members measure each other, what and how often: one Plan for each member.

Small swarms measure every pair. Above FULL_MESH members each probe measures those that the best placements have it
talk to (more often than others), the nearest ones, and a random set that stays the same while members come and go
(rendezvous hashing), so that old links keep their history; `survey` estimates the rest. Packets and bytes of a probe do
not grow with the swarm: the interval does. It is shorter while somebody watches.

Keys and session ids of a pair come from the collector's secret, so a restarted collector hands out the same ones
and probes that continued by their last plan still understand each other. Pure.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from swarm_collector.members.addresses import hosts_for
from swarm_collector.members.membership import Member
from swarm_collector.members.rendezvous import mapped_for
from swarm_collector.scheduling.keyed_hash import KeyedHash
from swarm_protocol.hop_round import PREFILL_ROUNDS, prefill_bytes, round_bytes
from swarm_protocol.layer_shape import LayerShape
from swarm_protocol.messages.probe_messages import ComputeTask, Peer, Plan
from swarm_protocol.messages.viewer_messages import Focus
from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_MS

FULL_MESH: Final = 50
NEAREST: Final = 16
RANDOM: Final = 16
OFTEN: Final = 4  # times as often: links that the best placement uses
AT_ONCE: Final = 64  # members handled before other tasks run
MAX_MEASURED_BY: Final = 64  # how many may choose one member: a node near everybody must not be overloaded
OWN_PACKETS_PER_S: Final = 8.0  # watched; as many answers go out: a third of the promised limit of 50 a second
IDLE_PACKETS_PER_S: Final = 0.31  # without viewers: 20 MB a day with the answers, both directions
MIN_INTERVAL_MS: Final = 250.0
WINDOW_PACKETS: Final = 16  # of one LinkSample: fewer make no quantiles
MIN_WINDOW_MS: Final = 5_000.0
AWAY_CHANGED: Final = 0.3  # of its logarithm: smaller differences are noise of the prediction
HOP_CADENCE_MS: Final = 150.0  # a swarm's usual time per token
PREFILL_CHUNK_TOKENS: Final = 8  # of a hop: far beyond the initial window; larger chunks follow the rate
MAX_PREFILL_BYTES: Final = 256 << 10
HOP_DAILY_BYTES: Final = 8_000_000
WATCHED_HOP_DAILY_BYTES: Final = 200_000_000  # spent only while there are viewers
HOP_EVERY_MS: Final = (60_000.0, 86_400_000.0)
HOST_EVERY_MS: Final = 5_000.0
IDLE_HOST_EVERY_MS: Final = 60_000.0
_DAY_MS: Final = 86_400_000.0
_ID_MASK: Final = (1 << 53) - 1

# enough for a curve over batch and context (three coefficients), and few: all is measured within seconds. Prompts are
# closer: processors change kernels with the length, and between 32 and 128 tokens linear interpolation was 16 % off
BATCHES: Final = (1, 8)
EXPERTS_BATCHES: Final = (1, 2, 4, 8)  # each sequence uses other experts: not even a curve is certain between 1 and 8
CONTEXTS: Final = (128, 2048)
PREFILL_TOKENS: Final = (32, 64, 128, 256, 512)

MAX_HIDDEN: Final = 65_536
_WORD_DIGITS: Final = 16  # hex digits of an id in its 64-bit word; older ids have no more
MAX_LAYER_PARAMS: Final = 1 << 34  # 32 GB in fp16: no decoder layer in use comes near

RttFrom = Callable[[str], Mapping[str, float]]  # node → node: lowest RTT known, in ms; measured values only


class FocusError(ValueError):
    """This model is not measured; one line that says why."""


@dataclass(frozen=True, slots=True)
class Draft:
    """One member's plan before it is made."""

    scheduler: Scheduler
    member: Member
    revision: int
    own: tuple[Member, ...]  # members that it measures
    answers: tuple[Member, ...]  # members that it only answers
    often: frozenset[str]  # of those it measures: the ones that the best placement uses
    watched: bool

    def plan(self) -> Plan:
        return self.scheduler.made(self)


class Scheduler:
    def __init__(self, secret: bytes, focus: Focus) -> None:
        check_focus(focus)
        self._focus_number = 0
        self._wanted: Mapping[str, tuple[str, ...]] = {}
        self._keyed = KeyedHash(secret)
        self._focus = focus
        self._salt = int.from_bytes(self._hmac("whom to measure")[:8], "big")
        # first of a pair → numbers of the second ones, and for each session ids as one number, those of the first's
        # packets in the high half. Hundreds of thousands of pairs in a large swarm: eight bytes each
        self._ssids: dict[str, tuple[array[int], array[int]]] = {}
        self._numbers: dict[str, int] = {}  # of nodes
        self._next_number = 0
        self._used: dict[str, array[int]] = {}  # node → session ids in use on its socket, either way; a hundred or so
        self._away_ms: dict[str, float] = {}  # node → how long a token of the best placement is elsewhere
        self._made: dict[str, tuple[int, int]] = {}  # node → what its plan says, since which revision

    @property
    def focus(self) -> Focus:
        return self._focus

    def keeps(self, focus: Focus) -> bool:
        """Return whether this is the present focus, so that plans stay. Who chose it counts from now on."""
        same = focus == msgspec.structs.replace(self._focus, chosen=focus.chosen)
        if same:
            self._focus = focus
        return same

    def set_focus(self, focus: Focus) -> None:
        """Set the focus. Raises FocusError."""
        check_focus(focus)
        self._focus = focus
        self._focus_number += 1

    def want(self, links: Mapping[str, tuple[str, ...]]) -> bool:
        """Set the links that matter most (node → peers); return whether they changed."""
        changed = {node: set(peers) for node, peers in links.items()} != {n: set(p) for n, p in self._wanted.items()}
        self._wanted = links
        return changed

    def pause(self, away_ms: Mapping[str, float]) -> bool:
        """Set how long a token of the best placement spends elsewhere before it returns to a node; return whether any
        value has changed enough to be sent."""
        before = self._away_ms
        self._away_ms = {
            node: before[node] if node in before and abs(math.log(ms / before[node])) < AWAY_CHANGED else ms
            for node, ms in away_ms.items()
            if ms > 0
        }
        return self._away_ms != before

    def plans(
        self, members: Sequence[Member], rtt_from: RttFrom, *, watched: bool, revision: int
    ) -> Iterator[Draft | None]:
        """Yield a plan for every member, each made on demand: all at once take hundreds of megabytes in a large swarm.
        A plan that says what the previous one said keeps its revision. Yields None from time to time, so that other
        tasks can run.
        """
        wanted = self._wanted if len(members) > FULL_MESH else {}
        chosen = yield from choosing(members, rtt_from, self._salt, wanted)
        measured_by: dict[str, list[str]] = {member.node_id: [] for member in members}
        for src, targets in chosen.items():
            for dst in targets:
                measured_by[dst].append(src)
        by_id = {member.node_id: member for member in members}
        self._forget(by_id)
        for number, member in enumerate(members, start=1):
            if number % AT_ONCE == 0:
                yield None
            own = chosen[member.node_id]
            known = set(own)
            answers = tuple(node_id for node_id in measured_by[member.node_id] if node_id not in known)
            versions = tuple(by_id[node_id].version for node_id in (*own, *answers))
            often = frozenset(wanted.get(member.node_id, ())) & known
            signature = hash(
                (
                    own,
                    answers,
                    often,
                    versions,
                    member.version,
                    watched,
                    self._focus_number,
                    self._away_ms.get(member.node_id),
                )
            )
            before, since = self._made.get(member.node_id, (None, 0))
            if signature != before:
                since = revision
                self._made[member.node_id] = signature, since
            yield Draft(self, member, since, tuple(map(by_id.__getitem__, own)), tuple(map(by_id.__getitem__, answers)),
                        often, watched)  # fmt: skip

    def made(self, draft: Draft) -> Plan:
        peers = tuple(
            self._peer(draft.member, peer, measure, OFTEN if peer.node_id in draft.often else 1)
            for measure, group in ((True, draft.own), (False, draft.answers))
            for peer in group
        )
        shares = len(draft.own) + (OFTEN - 1) * len(draft.often)
        plan = self._plan(peers, shares, watched=draft.watched)
        away_ms = self._away_ms.get(draft.member.node_id)
        return msgspec.structs.replace(plan, revision=draft.revision, away_ms=away_ms)

    def _plan(self, peers: tuple[Peer, ...], measured: int, *, watched: bool) -> Plan:
        rate = OWN_PACKETS_PER_S if watched else IDLE_PACKETS_PER_S
        interval_ms = max(MIN_INTERVAL_MS, round(1000.0 * max(1, measured) / rate))
        return Plan(
            revision=0,
            peers=peers,
            stamp_interval_ms=interval_ms,
            window_ms=max(MIN_WINDOW_MS, WINDOW_PACKETS * interval_ms),
            hop_bytes=self._focus.hop_bytes,
            prefill_bytes=_prefill_bytes(self._focus.hop_bytes) if watched else 0,
            hop_cadence_ms=HOP_CADENCE_MS,
            hop_every_ms=hop_every_ms(measured, self._focus.hop_bytes, watched=watched),
            host_every_ms=HOST_EVERY_MS if watched else IDLE_HOST_EVERY_MS,
            compute=compute_task(self._focus),
        )

    def _peer(self, member: Member, peer: Member, measure: bool, often: int) -> Peer:
        assert peer.hello is not None  # members known from the store only are in no plan
        pair = (member.node_id, peer.node_id) if member.node_id < peer.node_id else (peer.node_id, member.node_id)
        ssids = self._known_ssids(pair) or self._new_ssids(pair)
        first, second = ssids >> 16, ssids & 0xFFFF
        return Peer(
            node_id=peer.node_id,
            name=peer.name,
            hosts=hosts_for(peer.where, member.where),
            udp_port=peer.hello.udp_port,
            tcp_port=peer.hello.tcp_port,
            stamp_key=self._hmac(f"stamp key {pair[0]} {pair[1]}"),
            ssid_out=first if member.node_id == pair[0] else second,
            ssid_in=second if member.node_id == pair[0] else first,
            measure=measure,
            often=often,
            nat=peer.reach.nat,
            mapped=mapped_for(peer, member),
            quic=peer.hello.quic,
            relay=peer.hello.relay,
            follow_up=peer.hello.follow_up,
            trains=peer.hello.trains,
        )

    # ------------------------------------------------------------ what pairs share

    def _known_ssids(self, pair: tuple[str, str]) -> int | None:
        known, number = self._ssids.get(pair[0]), self._numbers.get(pair[1])
        if known is None or number is None:
            return None
        numbers, ssids = known
        try:
            return ssids[numbers.index(number)]
        except ValueError:
            return None

    def _new_ssids(self, pair: tuple[str, str]) -> int:
        first, second = (self._ssid(sender, pair) for sender in pair)
        if pair[1] not in self._numbers:
            self._numbers[pair[1]] = self._next_number
            self._next_number += 1
        numbers, ssids = self._ssids.setdefault(pair[0], (array("I"), array("I")))
        numbers.append(self._numbers[pair[1]])
        ssids.append(first << 16 | second)
        return ssids[-1]

    def _ssid(self, sender: str, pair: tuple[str, str]) -> int:
        """Return a session id unused at both ends; the same after a restart unless two hashes collided."""
        first, second = (self._used.setdefault(node_id, array("H")) for node_id in pair)
        ssid = int.from_bytes(self._hmac(f"ssid of {sender} in {pair}")[:4], "big") % 65535 + 1
        while ssid in first or ssid in second:
            ssid = ssid % 65535 + 1
        first.append(ssid)
        second.append(ssid)
        return ssid

    def _hmac(self, text: str) -> bytes:
        return self._keyed.digest(f"swarmtop {text}".encode())

    def _forget(self, present: dict[str, Member]) -> None:
        if gone := self._used.keys() - present.keys():  # nodes of pairs, thus all in `_ssids`
            second_of = {number: node_id for node_id, number in self._numbers.items()}
            for first, (numbers, ssids) in list(self._ssids.items()):
                for i in reversed(range(len(numbers))):
                    second = second_of[numbers[i]]
                    if first in gone or second in gone:
                        both = ssids.pop(i)
                        del numbers[i]
                        for node_id in (first, second):
                            for ssid in (both >> 16, both & 0xFFFF):
                                self._used[node_id].remove(ssid)
                if not numbers:
                    del self._ssids[first]
        for known in (self._used, self._numbers, self._made):
            for node_id in known.keys() - present.keys():
                del known[node_id]


def compute_task(focus: Focus) -> ComputeTask:
    """Return the task; the same content has the same id, also after a restart: probes do not measure it again."""
    task = ComputeTask(
        task_id=0, model=focus.model, layer=focus.layer, dtype=focus.dtype, vocab=focus.vocab,
        batches=EXPERTS_BATCHES if focus.layer.experts else BATCHES, contexts=CONTEXTS, prefill_tokens=PREFILL_TOKENS,
    )  # fmt: skip
    digest = hashlib.sha256(msgspec.msgpack.encode(task)).digest()
    return msgspec.structs.replace(task, task_id=int.from_bytes(digest[:8], "big") & _ID_MASK)


def _prefill_bytes(hop_bytes: int) -> int:
    return min(MAX_PREFILL_BYTES, PREFILL_CHUNK_TOKENS * hop_bytes)


def hop_every_ms(peers: int, hop_bytes: int, *, watched: bool) -> float:
    daily_bytes = WATCHED_HOP_DAILY_BYTES if watched else HOP_DAILY_BYTES
    out = round_bytes(hop_bytes, round(HOP_CADENCE_MS * NS_PER_MS))
    if watched:
        out += prefill_bytes(_prefill_bytes(hop_bytes)) // PREFILL_ROUNDS
    a_round = 2 * max(1, peers) * out  # out, and the peers' own rounds in
    shortest, longest = HOP_EVERY_MS
    return min(max(shortest, round(_DAY_MS * a_round / daily_bytes)), longest)


def check_focus(focus: Focus) -> None:
    """Check a stranger's layer sizes. Raises FocusError for a layer that no probe should build."""
    layer: LayerShape = focus.layer
    sizes = (layer.hidden, layer.intermediate, layer.heads, layer.kv_heads, layer.head_dim)
    if safe(focus.model) != focus.model:
        raise FocusError(f"{safe(focus.model)} is not a model's name")
    if not all(1 <= size <= MAX_HIDDEN * 4 for size in sizes) or layer.hidden > MAX_HIDDEN:
        raise FocusError(f"the layer's sizes {sizes} are not a decoder layer's")
    if not all(0 <= count <= 4096 for count in (layer.experts, layer.experts_active, layer.shared_experts)):
        raise FocusError("the layer has too many experts")
    if layer.params > MAX_LAYER_PARAMS:
        raise FocusError(f"a layer of {layer.params} elements is more than any probe should build")


def choose(
    members: Sequence[Member], rtt_from: RttFrom, salt: int, wanted: Mapping[str, tuple[str, ...]] | None = None
) -> dict[str, tuple[str, ...]]:
    """Return whom each member measures: first the `wanted` ones, whoever else chooses them."""
    steps = choosing(members, rtt_from, salt, wanted)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            chosen: dict[str, tuple[str, ...]] = end.value
            return chosen


def choosing(
    members: Sequence[Member], rtt_from: RttFrom, salt: int, wanted: Mapping[str, tuple[str, ...]] | None = None
) -> Generator[None, None, dict[str, tuple[str, ...]]]:
    """Do what `choose` does, in steps: for ten thousand members it takes more than a second."""
    ids = [member.node_id for member in members]
    if len(ids) <= FULL_MESH:
        return {node_id: tuple(peer for peer in ids if peer != node_id) for node_id in ids}
    words = np.array([int(node_id[:_WORD_DIGITS], 16) for node_id in ids], np.uint64)
    order = _HiddenOrder(words, salt)
    rows = {node_id: row for row, node_id in enumerate(ids)}
    picked_by = [0] * len(ids)
    result = {}
    for number, row in enumerate(order.of_members, start=1):
        if number % AT_ONCE == 0:
            yield
        me = ids[row]
        first = [rows[peer] for peer in (wanted or {}).get(me, ()) if peer != me and peer in rows][:NEAREST]
        known = sorted((rtt, rows[peer]) for peer, rtt in rtt_from(me).items() if peer != me and peer in rows)
        near = first + [row for _, row in known if picked_by[row] < MAX_MEASURED_BY and row not in first]
        near = near[: max(NEAREST, len(first))]
        taken = {*near, row}
        others = (peer for peer in order.of_peers(row) if peer not in taken and picked_by[peer] < MAX_MEASURED_BY)
        peers = near + list(islice(others, RANDOM + NEAREST - len(near)))
        for peer in set(peers):
            picked_by[peer] += 1
        result[me] = tuple(ids[peer] for peer in peers)
    return result


class _HiddenOrder:
    """Orders of members by hashes that none of them can choose. `words`: one for each member."""

    def __init__(self, words: npt.NDArray[np.uint64], salt: int) -> None:
        self._words = words
        self._hidden = words ^ np.uint64(salt)
        self._shifted = np.empty_like(words)
        _mix(self._hidden, self._shifted)
        self._rank = np.empty_like(words)
        # ranks below it are enough for nearly every member; hashes are spread evenly
        self._low = np.uint64(min(2**64 - 1, 2**64 * 4 * (RANDOM + NEAREST) // len(words)))

    @property
    def of_members(self) -> list[int]:
        order: list[int] = np.argsort(self._hidden).tolist()
        return order

    def of_peers(self, row: int) -> Iterator[int]:
        """Yield all members in the order of this one; until the next call, which reuses the memory."""
        rank = self._rank
        np.bitwise_xor(self._hidden, self._words[row], out=rank)
        _mix(rank, self._shifted)
        low = np.flatnonzero(rank < self._low)
        yield from low[np.argsort(rank[low])].tolist()
        seen = set(low.tolist())
        yield from (peer for peer in np.argsort(rank).tolist() if peer not in seen)


def _mix(words: npt.NDArray[np.uint64], shifted: npt.NDArray[np.uint64]) -> None:
    """Apply splitmix64's finaliser in place: every bit of the input affects every bit of the output. `shifted`: memory
    for it, without which a large swarm's hashes take twice as long."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        np.right_shift(words, np.uint64(shift), out=shifted)
        np.bitwise_xor(words, shifted, out=words)
        if factor != 1:
            np.multiply(words, np.uint64(factor), out=words)
