"""Run the engine's client: request a prompt, then token after token, and record when each arrived.

`python -m swarm_lab.engine.driver` with a JSON DriverConfig on standard input prints a DriverReport as JSON. In a
chain it sends token ids and gets token ids back from the last stage; in a star it holds embedding and LM head, as
Petals' client does, and sends activations to each stage in turn.
"""

from __future__ import annotations

import queue
import socket
import sys
import threading
import time

import msgspec

from swarm_lab.engine import framing
from swarm_lab.engine.config import Draft, DriverConfig, DriverReport, Hop, WindowResult
from swarm_lab.engine.framing import Body, Message
from swarm_lab.engine.stage import Ends
from swarm_lab.engine.verify_windows import WindowAccount
from swarm_lab.engine.worker import CONNECT_TIMEOUT_S, Wiring, wiring_message


def run(config: DriverConfig) -> DriverReport:
    """Run. Raises WireError if a stage hangs up, OSError if one cannot be reached."""
    session = _Chain(config) if config.pattern == "chain" else _Star(config)
    prompt = tuple((7 * k + 1) % config.shape.vocab for k in range(config.prompt_tokens)) * config.batch
    step_ms: list[float] = []
    tokens: list[int] = []
    try:
        # once as a warm-up: first calls allocate, draw the embedding and start threads, which a server has done
        session.step(1, config.prompt_tokens, session.step(0, 0, prompt))
        session.reset()
        session.hops.clear()
        time.sleep(config.idle_ms / 1e3)
        began_ns = time.monotonic_ns()
        answer = session.step(0, 0, prompt)
        ttft_ms = (time.monotonic_ns() - began_ns) / 1e6
        if config.draft is not None:
            assert isinstance(session, _Chain)
            return DriverReport(ttft_ms, (), 1, (), (answer[0],), _speculate(session, config, config.draft))
        for step in range(1, config.steps + 1):
            tokens.append(answer[0])
            if config.pause_ms:
                time.sleep(config.pause_ms / 1e3)
            began_ns = time.monotonic_ns()
            answer = session.step(step, config.prompt_tokens + step - 1, answer)
            if step > config.warm_up_steps:
                step_ms.append((time.monotonic_ns() - began_ns) / 1e6)
    finally:
        session.close()
    return DriverReport(ttft_ms, tuple(step_ms), config.warm_up_steps + 1, tuple(session.hops), tuple(tokens))


def _speculate(session: _Chain, config: DriverConfig, draft: Draft) -> tuple[WindowResult, ...]:
    """Verify windows until there are `steps` tokens; return the results after the warm-up, in the order of arrival.

    One window is drafted at a time, also while others are in flight; a window that was drafted on wrong guesses is
    drafted again. With one window in flight, the next one is drafted when the result is there."""
    account, results, warm = WindowAccount(draft, config.prompt_tokens), [], 0
    arrivals: queue.SimpleQueue[tuple[int, int] | framing.WireError] = queue.SimpleQueue()
    threading.Thread(target=session.listen, args=(arrivals,), daemon=True).start()

    def take(*, wait: bool) -> None:
        """Account for the results that have arrived; with `wait`, for at least one."""
        while wait or not arrivals.empty():
            arrived = arrivals.get()
            if isinstance(arrived, framing.WireError):
                raise arrived
            number, at_ns = arrived
            results.append(WindowResult(at_ns, account.verified(number)))
            wait = False

    while account.tokens < config.steps:
        if account.tokens < config.warm_up_steps:
            warm = len(results)
        while draft.windows == 1 and account.in_flight:
            take(wait=True)
        epoch = account.epoch
        time.sleep(draft.guesses * draft.ms / 1e3)
        take(wait=False)
        while not account.may_send and account.epoch == epoch:
            take(wait=True)
        if account.epoch != epoch or not account.may_send:
            continue
        window = account.send()
        session.send(window.number, window.position, (0,) * (draft.guesses + 1))
    while account.in_flight:
        take(wait=True)
    return tuple(results[warm:])


class _Chain:
    def __init__(self, config: DriverConfig) -> None:
        self.hops: list[Hop] = []
        self._batch = config.batch
        with socket.create_server((config.own_host, 0)) as listener:
            self._out = framing.connect(*config.stages[0], CONNECT_TIMEOUT_S)
            home = (config.own_host, listener.getsockname()[1])
            framing.send(self._out, wiring_message(Wiring((*config.stages[1:], home))))
            listener.settimeout(CONNECT_TIMEOUT_S)
            self._back = framing.accept(listener)
        self._back.settimeout(None)
        framing.receive(self._back)  # the wiring that the last stage passes on: empty here

    def step(self, step: int, position: int, tokens: tuple[int, ...]) -> tuple[int, ...]:
        sent_ns = time.monotonic_ns()
        framing.send(self._out, Message(Body.TOKENS, self._batch, step, position, _ids(tokens)))
        answer = framing.receive(self._back)
        self.hops.append(Hop(step, 0, sent_ns, time.monotonic_ns()))
        return tuple(memoryview(answer.data).cast("i"))

    def send(self, step: int, position: int, tokens: tuple[int, ...]) -> None:
        framing.send(self._out, Message(Body.TOKENS, self._batch, step, position, _ids(tokens)))

    def listen(self, arrivals: queue.SimpleQueue[tuple[int, int] | framing.WireError]) -> None:
        """Put (step, time) of every answer into `arrivals`, and the end of the connection."""
        try:
            while True:
                answer = framing.receive(self._back)
                arrivals.put((answer.step, time.monotonic_ns()))
        except (framing.WireError, OSError) as error:
            arrivals.put(error if isinstance(error, framing.WireError) else framing.WireError(str(error)))

    def reset(self) -> None:
        framing.send(self._out, Message(Body.RESET, 1, 0, 0, b""))
        framing.receive(self._back)  # every stage has passed it on

    def close(self) -> None:
        _bye(self._out)
        self._out.close()
        self._back.close()


class _Star:
    def __init__(self, config: DriverConfig) -> None:
        self.hops: list[Hop] = []
        self._batch = config.batch
        self._ends = Ends(config.shape, config.threads)
        self._stages = [framing.connect(host, port, CONNECT_TIMEOUT_S) for host, port in config.stages]
        for stage in self._stages:
            framing.send(stage, wiring_message(Wiring()))

    def step(self, step: int, position: int, tokens: tuple[int, ...]) -> tuple[int, ...]:
        hidden = self._ends.embed(_ids(tokens), self._batch)
        for number, stage in enumerate(self._stages):
            sent_ns = time.monotonic_ns()
            framing.send(stage, Message(Body.ACTIVATION, self._batch, step, position, hidden))
            hidden = framing.receive(stage).data
            self.hops.append(Hop(step, number, sent_ns, time.monotonic_ns()))
        return tuple(memoryview(self._ends.sample(hidden, self._batch)).cast("i"))

    def reset(self) -> None:
        for stage in self._stages:
            framing.send(stage, Message(Body.RESET, 1, 0, 0, b""))

    def close(self) -> None:
        for stage in self._stages:
            _bye(stage)
            stage.close()


def _ids(tokens: tuple[int, ...]) -> bytes:
    return b"".join(token.to_bytes(4, sys.byteorder) for token in tokens)


def _bye(connection: socket.socket) -> None:
    try:
        framing.send(connection, Message(Body.BYE, 1, 0, 0, b""))
    except OSError as error:  # the stage has gone already; its own log says why
        print(f"a stage hung up before the end ({error})", file=sys.stderr)


def main() -> int:
    report = run(msgspec.json.decode(sys.stdin.buffer.read(), type=DriverConfig))
    sys.stdout.buffer.write(msgspec.json.encode(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
