"""Run the probe: join a collector, carry out its plan, spool the samples, and keep measuring when it is gone.

Creates the parts and ends them: paths (STAMP, hops, transfers), layer timing, the machine's own state, the spool and
the connection to the collector. Decisions are in the parts. Lasting tasks run under one supervisor, which logs and
restarts a part that ends. A part that keeps ending, or an unforeseen error in the connection or a transfer, ends the
probe with a traceback in its folder: a probe that works in part and looks healthy would be worse.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from swarm_probe.collector_client.certificate_pinning import Certificates
from swarm_probe.collector_client.client import ClientState, CollectorClient
from swarm_probe.collector_client.hangups import Strikes
from swarm_probe.collector_client.join_url import collector_of
from swarm_probe.compute.supervisor import Compute
from swarm_probe.daemon_config import PathsMaker, ProbeConfig, real_paths
from swarm_probe.machine.gpu import Gpus
from swarm_probe.machine.host import Host, usable_cores
from swarm_probe.measure.dialer import QUIC
from swarm_probe.measure.retained_members import RetainedMembers
from swarm_probe.measure.transfers.transfer_tasks import TransferTasks
from swarm_probe.operating_system.clock_jumps import ClockWatch
from swarm_probe.owner_limits.compute_budget import USUAL, ComputeBudget
from swarm_probe.owner_limits.idle_policy import IdlePolicy
from swarm_probe.owner_limits.traffic_budget import TrafficBudget
from swarm_probe.owner_reports.status import Status, write_status
from swarm_probe.owner_reports.status_lines import gist, limit_line, machine_line, plan_line, why_resting
from swarm_probe.sample_check import admissible
from swarm_probe.spool import Spool
from swarm_probe.udp.nat_discovery import Finding
from swarm_protocol import __version__
from swarm_protocol.messages.probe_messages import (
    PROTOCOL_VERSION,
    Challenge,
    ChallengeGo,
    ChallengeOpen,
    Hello,
    Mapped,
    Plan,
    ProbeMessage,
    Reach,
)
from swarm_protocol.messages.samples import EventSample, HostSample, ProbeSample
from swarm_protocol.supervisor import Supervisor
from swarm_protocol.text import clean_name, safe
from swarm_protocol.trust.identity import load_or_create_node_key
from swarm_protocol.trust.signing import Handshake, sign_elsewhere
from swarm_protocol.units import ms_from_ns

FLUSH_S: Final = 1.0  # the most that a power cut costs, and how late a figure may be on the screen
FLUSH_SAMPLES: Final = 200  # a batch of these is far below what one message may hold
STATUS_EVERY: Final = 10  # flushes
LEDGER_EVERY: Final = 60  # flushes: what a power cut loses of the day's byte count
HOST_FIRST_MS: Final = 10_000.0  # before any plan
MIN_HOST_MS: Final = 1_000.0  # whatever the plan says
KEY_FILE: Final = "node.key"

log = logging.getLogger(__name__)


class Daemon:
    """The probe. `run` until `stop` or a final refusal."""

    def __init__(self, config: ProbeConfig, *, make_paths: PathsMaker | None = None, gpus: Gpus | None = None) -> None:
        """Open key and spool. Raises IdentityError and SpoolError."""
        self._config = config
        spools = config.state / "spool"
        self._key = load_or_create_node_key(config.state / KEY_FILE, lambda: _names_in(spools))
        self._node_id = ""  # as the collector has it, perhaps of an older version; known after joining
        self._rng = random.Random()
        collector = collector_of(config.url)
        # a spool for each collector: what one swarm measured must not reach another
        folder = spools / clean_name(collector.replace(":", "_"))
        self._former_key = self._key.former_for(folder.name)
        self._spool = Spool(folder, now_ns=time.time_ns, say=_say)
        self._buffer: list[ProbeSample] = []
        self._host = Host(gpus)
        self._gpu_problem: str | None = None
        self._traffic_budget = TrafficBudget.open(config.daily_bytes, config.state, time.time_ns())
        if self._traffic_budget.trouble:
            log.warning("%s", self._traffic_budget.trouble)
        self._idle_policy = IdlePolicy()
        self._resting: str | None = None
        make_paths = make_paths or partial(real_paths, config)
        self._paths = make_paths(self.emit, self._traffic_budget, self._idle_policy)
        self._udp_error: str | None = None
        self._compute_budget = ComputeBudget.open(
            config.compute_budget or USUAL.times(usable_cores()),
            config.gpu_budget or USUAL.times(max(1, self._host.cards)),
            config.state,
            time.time_ns(),
        )
        self._compute = Compute(
            self.emit,
            say=_say,
            wall_ns=time.time_ns,
            rng=self._rng,
            limits=config.compute,
            away_s=self._paths.usual_away_s,
            budget=self._compute_budget,
            cards=lambda: self._host.cards,
        )
        self._link = CollectorClient(
            config.url,
            hello=self._hello,
            certificates=Certificates(
                collector,
                config.state,
                _say,
                pin=config.pin,
                tls=config.url.startswith("wss:"),
                by_authority=config.by_authority,
            ),
            spool=self._spool,
            on_plan=self._on_plan,
            on_lease=lambda lease: self._transfers.begin(lease),
            on_grant=self._paths.grant,
            on_state=self._on_state,
            on_relay=self._paths.relayed,
            on_challenge=self._on_challenge,
            rng=self._rng,
            times=config.times,
            traffic_budget=self._traffic_budget,
            strikes=Strikes.open(folder.name, config.state),
            wake_ups=self._paths.wake_ups,
        )
        self._paths.linked(self._link.send, self._link.carried)
        self._link_state = ClientState("connecting", f"connecting to {collector}")
        self._plan: Plan | None = None
        self._retained = RetainedMembers()
        self._transfers = TransferTasks(self._paths.run_uplink, self._link.send)
        self._sending: set[asyncio.Task[bool]] = set()
        self._started_ns = time.time_ns()
        self._status_fails = False
        self._dropped = 0
        self._supervisor = Supervisor(log)
        self._paths.supervise(self._supervisor)
        self._host_due = asyncio.Event()

    # ------------------------------------------------------------ for the parts

    def emit(self, sample: ProbeSample) -> None:
        """Take a sample from any part."""
        self._buffer.append(sample)
        if len(self._buffer) >= FLUSH_SAMPLES:
            self._flush()

    # ------------------------------------------------------------ life

    def stop(self) -> None:
        """Send what there is, say goodbye, and end `run`."""
        self._flush()
        self._link.leave()

    async def run(self) -> str | None:
        """Run; return None after `stop`, or the reason of a final refusal. Raises any unforeseen error of a part."""
        log.info("%s", self._link_state.text)
        self._supervisor.watch_callbacks(timers_end=True)
        await self._paths.start()
        self._look_at_udp()
        failed = self._transfers.failed()
        link = asyncio.create_task(self._link.run())
        broken = asyncio.create_task(self._supervisor.failed())
        self._supervisor.task("storing samples", self._tick)
        self._supervisor.task("reading this machine's state", self._watch_host)
        self._supervisor.task("timing layers", self._compute.run)
        try:
            watched: list[asyncio.Future[None] | asyncio.Task[str | None]] = [broken, failed, link]
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            for each in watched:
                if each.done():
                    each.result()
            return link.result()
        finally:
            await self._supervisor.close()
            tasks = [link, broken, *self._transfers.running, *self._sending]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._paths.close()
            self._flush()
            self._traffic_budget.write(time.time_ns())
            self._spool.close()
            self._write_status()

    # ------------------------------------------------------------ messages of the collector

    async def _hello(self, handshake: Handshake) -> Hello:
        """Return the hello, signed for this connection alone. Raises SigningError."""
        public_key, proof = await asyncio.to_thread(sign_elsewhere, self._key.seed, handshake.signed("join"))
        facts = self._host.facts()
        return Hello(
            protocol=PROTOCOL_VERSION,
            public_key=public_key,
            proof=proof,
            bound_to=handshake.bound_to,
            node_key=self._former_key,
            invite=self._config.invite,
            name=self._config.name,
            token=self._config.token,
            epoch=self._spool.epoch,
            udp_port=self._paths.udp_port,
            tcp_port=self._paths.tcp_port,
            addresses=self._config.addresses(self._link.collector_host),
            software=f"swarmtop {__version__}",
            quic=QUIC,
            relay=True,
            follow_up=True,
            trains=True,
            facts=msgspec.structs.replace(facts, offer_bytes=self._config.offer_bytes),
            at_ns=time.time_ns(),
        )

    def _on_plan(self, plan: Plan) -> None:
        self._carry_out(self._retained.plan(plan, time.monotonic_ns()))

    def _carry_out(self, plan: Plan) -> None:
        before, self._plan = self._plan, plan
        self._traffic_budget.lower(plan.daily_bytes)
        self._paths.update(plan)
        self._compute.update(plan.compute if self._idle_policy.battery_percent is None else None)
        if before is None or before.host_every_ms != plan.host_every_ms:
            self._host_due.set()
        if before is None or gist(before) != gist(plan):
            log.info("plan: %s", plan_line(plan))

    def _on_reach(self, finding: Finding) -> None:
        mapped = (Mapped(finding.mapped.host, finding.mapped.port),) if finding.mapped is not None else ()
        self._send_soon(Reach(nat=finding.nat, mapped=mapped))

    def _send_soon(self, message: ProbeMessage) -> None:
        """If the connection is gone, the message is dropped: the next connection asks again."""
        task = asyncio.get_running_loop().create_task(self._link.send(message))
        self._sending.add(task)
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[bool]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._supervisor.lost("sending to the collector", error)

    def _on_challenge(self, message: Challenge | ChallengeGo | ChallengeOpen) -> None:
        if isinstance(message, Challenge):
            self._compute.challenge(message, self._node_id, self._send_soon)
        else:
            self._compute.order(message)

    def _on_state(self, state: ClientState) -> None:
        welcome = self._link.welcome
        self._compute.connection_ended()  # whatever it is now, it is another than a challenge may have come over
        if state.kind == "joined" and welcome is not None:
            self._node_id = welcome.node_id
            self._retained.joined(time.monotonic_ns())
            self._paths.joined(self._link.collector_host, welcome.stun_ports, self._on_reach)
        # the same failure again is not logged, and the program ends with a refusal as its last line
        if state != self._link_state and state.kind != "refused":
            log.info("%s%s", state.text, self._going_on() if state.kind == "away" else "")
        self._link_state = state
        self._write_status()

    def _going_on(self) -> str:
        if self._plan is not None:
            return "; measuring continues, trying again"
        return "; trying again: is a collector running there, and its port open?"

    # ------------------------------------------------------------ tasks

    async def _tick(self) -> None:
        """Flush, check the clock and the UDP port, write the status."""
        clock = ClockWatch(time.time_ns(), time.monotonic_ns())
        count = 0
        while True:
            if count % STATUS_EVERY == 0:
                self._write_status()
            count += 1
            self._link.look()
            if count % LEDGER_EVERY == 0:
                self._traffic_budget.write(time.time_ns())
            await self._paths.wake_ups.pause(FLUSH_S)
            self._check_idle_policy()
            if (plan := self._retained.due(time.monotonic_ns())) is not None:
                self._carry_out(plan)
            jumped = clock.look(time.time_ns(), time.monotonic_ns())
            if jumped is not None:
                log.info("%s", jumped.detail)
                self.emit(jumped)
            self._look_at_udp()
            self._flush()

    async def _watch_host(self) -> None:
        while True:
            for sample in self._host.samples(time.time_ns()):
                self.emit(self._with_reach(sample))
            self._compute.look(self._host.conditions())
            if self._host.gpu_problem != self._gpu_problem:
                self._gpu_problem = self._host.gpu_problem
                log.info("%s", self._gpu_problem or "the GPU driver answers again")
            every_ms = max(MIN_HOST_MS, self._plan.host_every_ms if self._plan is not None else HOST_FIRST_MS)
            self._host_due.clear()
            await self._paths.wake_ups.pause(every_ms / 1e3, until=self._host_due)

    def _with_reach(self, sample: HostSample | EventSample) -> HostSample | EventSample:
        if isinstance(sample, EventSample):
            return sample
        finding = self._paths.finding
        rtt_ns = min((rtt for rtt in (finding.rtt_ns, self._link.rtt_ns) if rtt is not None), default=None)
        rtt_ms = ms_from_ns(rtt_ns) if rtt_ns is not None else None
        return msgspec.structs.replace(sample, nat=finding.nat, collector_rtt_ms=rtt_ms)

    def _check_idle_policy(self) -> None:
        """Log once why tests are paused, and that they continue; on battery no layers are timed either."""
        now_ns = time.monotonic_ns()
        resting = why_resting(self._traffic_budget, time.time_ns()) or self._idle_policy.why_waiting(now_ns)
        battery = self._idle_policy.battery_percent is not None
        if self._plan is not None:
            self._compute.update(None if battery else self._plan.compute)
        if (resting is None) != (self._resting is None):
            log.info("%s", f"waiting: {resting}" if resting else "tests resumed")
        self._resting = resting

    def _look_at_udp(self) -> None:
        """Log once that no round trips can be measured."""
        error = self._paths.udp_error
        if error is not None and error != self._udp_error:
            self.emit(EventSample(at_ns=time.time_ns(), kind="udp_off", detail=safe(error, 300)))
        self._udp_error = error

    def _flush(self) -> None:
        if not self._buffer:
            return
        taken, refused = admissible(self._buffer)
        self._buffer.clear()
        for line in refused:
            if not self._dropped:
                log.warning("left out a sample that no collector would take (%s); please report this", line)
            self._dropped += 1
        if taken:
            self._spool.append(taken)
            self._link.more()

    def _write_status(self) -> None:
        try:
            write_status(self._config.state, self.status())
        except OSError as error:
            if not self._status_fails:
                log.info("cannot write the status file (%s)", error.strerror)
            self._status_fails = True
        else:
            self._status_fails = False

    def status(self) -> Status:
        welcome = self._link.welcome
        counters = dict(self._paths.counters())
        if self._dropped:
            counters["samples_left_out"] = self._dropped
        if self._link.ignored:
            counters["collector_messages_ignored"] = self._link.ignored
        return Status(
            pid=os.getpid(),
            version=__version__,
            started_ns=self._started_ns,
            at_ns=time.time_ns(),
            collector=collector_of(self._config.url),
            url=self._config.url,
            link=self._link_state.text,
            joined=welcome is not None,
            node_id=self._node_id,
            name=welcome.name if welcome is not None else self._config.name,
            plan=plan_line(self._plan) if self._plan is not None else "",
            compute=self._compute.status,
            restarted="; ".join(f"{name} {words}" for name, words in self._supervisor.troubles.items()),
            udp=self._udp_error or f"port {self._paths.udp_port}",
            waiting=self._resting or "",
            traffic=self._traffic_budget.trouble or limit_line(self._traffic_budget, time.time_ns()),
            today=self._traffic_budget.totals(time.time_ns()),
            machine=machine_line(self._host.lines(), self._idle_policy.readings.reasons),
            computing=self._compute_budget.line(time.time_ns()),
            spool_batches=self._spool.waiting,
            spool_bytes=self._spool.size_bytes,
            spool_trouble=self._spool.trouble,
            counters=counters,
        )


def _names_in(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(os.listdir(folder)))
    except OSError:  # no spool yet: never joined
        return ()


def _say(line: str) -> None:
    log.info("%s", line)
