"""Claims about watching Petals' chat backend: a WebSocket that speaks its protocol (chat.petals.dev 9e2faf0)."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from swarmtop import cli
from swarmtop.errors import CommandError
from swarmtop.watch.petals import chat_url

TPOT_S = 0.005


class Backend:
    """Does what websocket_api.py does: sends token by token until the stop sequence or the client's disconnect."""

    def __init__(self) -> None:
        self.asked: list[dict[str, object]] = []
        self.per_message = 1
        self.refuse = ""
        self.stop_after = 10**9
        self._server = serve(self._handle, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _handle(self, ws: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            self.asked.append(json.loads(ws.recv()))
            if self.refuse:
                ws.send(json.dumps({"ok": False, "traceback": f"Traceback (most recent call last)\n{self.refuse}\n"}))
                return
            ws.send(json.dumps({"ok": True}))
            self.asked.append(json.loads(ws.recv()))
            for number in range(1, 10_000):
                time.sleep(TPOT_S)
                stop = number >= self.stop_after
                ws.send(json.dumps({"ok": True, "outputs": " x", "stop": stop, "token_count": self.per_message}))
                if stop:
                    ws.recv()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(10)


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.close()


def watched(capsys: pytest.CaptureFixture[str], backend: Backend, *words: str) -> tuple[int, str, str]:
    code = cli.main(
        ["watch", backend.url, "--served-model", "m/x", "--requests", "1", "--every", "0", "--max-tokens", "8", *words]
    )
    out, err = capsys.readouterr()
    return code, out, err


def test_tokens_are_timed_from_the_question_and_not_from_the_opening(
    backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = watched(capsys, backend, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert (found["tokens"], found["tokens_counted_by_engine"]) == (8, True)
    assert found["ttft_ms"] >= TPOT_S * 1e3
    assert found["ttft_ms"] + 7 * found["tpot_ms"] >= 8 * TPOT_S * 1e3
    opening, generate = backend.asked
    assert opening["type"] == "open_inference_session"
    assert (generate["type"], generate["max_new_tokens"]) == ("generate", 1)


def test_messages_of_several_tokens_show_no_spread(backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    backend.per_message = 2
    _, out, _ = watched(capsys, backend, "--json")
    found = json.loads(out)
    assert (found["tokens"], found["tpot_p50_ms"]) == (8, None)


def test_an_answer_that_stops_early_has_fewer_tokens(backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    backend.stop_after = 3
    _, out, _ = watched(capsys, backend, "--json")
    assert json.loads(out)["tokens"] == 3


def test_a_refusal_is_its_last_line(backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    backend.refuse = "ValueError: no public API for m/x"
    code, _, err = watched(capsys, backend)
    assert code == 3
    assert err.endswith(": the backend says: ValueError: no public API for m/x\n")


def test_the_address_may_be_given_as_people_have_it() -> None:
    assert chat_url("wss://chat.petals.dev") == "wss://chat.petals.dev/api/v2/generate"
    assert chat_url("wss://chat.petals.dev/api/v2/generate/") == "wss://chat.petals.dev/api/v2/generate"
    with pytest.raises(CommandError, match="is no address of a Petals chat backend"):
        chat_url("wss://host?key=secret")
