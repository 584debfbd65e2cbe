"""Let the user change the workload: weights, context, batch, streams, client, activations, prompt.

Each setting that `swarmtop predict` takes and that changes what people see has a key, and an entry in the palette;
`choose_any` lists all of them with their values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from swarm_predict.model.weight_formats import WEIGHT_FORMATS
from swarmtop.dashboard.lines.styled import clean
from swarmtop.dashboard.screens.overlays import Picker, Prompt

if TYPE_CHECKING:
    from swarmtop.dashboard.screen_api import DashboardBase

AT_FIRST_STAGE: Final = "-"
ACTIVATIONS: Final = {"fp16": "two bytes a value", "fp32": "four bytes", "int8": "one byte, and a scale"}

# name of the field, what it is, least, most
NUMBERS: Final[dict[str, tuple[str, int, int]]] = {
    "context": ("tokens in the KV cache", 0, 10_000_000),
    "batch": ("sequences decoded together", 1, 65_536),
    "streams": ("requests in flight", 1, 65_536),
    "prompt": ("tokens of the prompt, for the first token", 1, 10_000_000),
}


def _take(board: DashboardBase, **changes: Any) -> None:
    board.choose_workload(dataclasses.replace(board.session.workload, **changes))


def choose_weights(board: DashboardBase) -> None:
    def choose(name: str | None) -> None:
        if name:
            _take(board, weights=name)

    picks = [(name, name, f"{entry.layer_bits:.3g} bits a weight") for name, entry in WEIGHT_FORMATS.items()]
    board.push_screen(Picker(board.ink, "weights", picks, board.session.workload.weights), choose)


def choose_activations(board: DashboardBase) -> None:
    def choose(name: str | None) -> None:
        if name:
            _take(board, activations=name)

    picks = [(name, name, words) for name, words in ACTIVATIONS.items()]
    board.push_screen(Picker(board.ink, "activations", picks, board.session.workload.activations), choose)


def choose_client(board: DashboardBase) -> None:
    view = board.view()
    if view is None:
        return

    def choose(name: str | None) -> None:
        if name:
            _take(board, client=None if name == AT_FIRST_STAGE else name)

    picks = [(AT_FIRST_STAGE, "first stage", "no network between, unless the source names a client")]
    picks += [(facts.name, clean(facts.name, 40), clean(facts.device, 40)) for facts in view.swarm.facts]
    board.push_screen(
        Picker(board.ink, "client: where tokens go", picks, board.session.workload.client or AT_FIRST_STAGE), choose
    )


def choose_number(board: DashboardBase, field: str) -> None:
    what, least, most = NUMBERS[field]

    def problem(text: str) -> str:
        value = text.strip().replace("_", "")
        if not value.isascii() or not value.isdigit() or not least <= int(value[:12]) <= most:
            return f"a whole number from {least} to {most}"
        return ""

    def take(text: str | None) -> None:
        if text is not None:
            _take(board, **{field: int(text.strip().replace("_", ""))})

    now = str(getattr(board.session.workload, field))
    board.push_screen(Prompt(board.ink, field, f"{what}, now {now}", now, problem), take)


def choose_any(board: DashboardBase) -> None:
    """Choose from all settings in one list."""
    load = board.session.workload
    doing: dict[str, tuple[str, str, Callable[[], None]]] = {
        "weights": (load.weights, "how a weight is kept", lambda: choose_weights(board)),
        **{
            field: (str(getattr(load, field)), words[0], lambda field=field: choose_number(board, field))  # type: ignore[misc]
            for field, words in NUMBERS.items()
        },
        "client": (load.client or "first stage", "where tokens go", lambda: choose_client(board)),
        "activations": (load.activations, "between stages", lambda: choose_activations(board)),
    }

    def choose(name: str | None) -> None:
        if name in doing:
            doing[name][2]()

    picks = [(name, f"{name} {value}", what) for name, (value, what, _) in doing.items()]
    board.push_screen(Picker(board.ink, "workload", picks), choose)
