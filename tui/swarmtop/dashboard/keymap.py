"""Define every key of the dashboard in one place. Bindings, footer, help and the command palette are derived from this
registry.

Frozen data without Textual. The handler of `name` is the method `action_<name>` of the screen or, for actions of every
screen, of the app; a test holds the two together. `keymap` puts a person's own keys in place of the registry's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

Screen = Literal["overview", "node", "links", "placement", "time"]
SCREENS: Final[tuple[Screen, ...]] = ("overview", "node", "links", "placement", "time")
TITLES: Final[dict[Screen, str]] = {
    "overview": "Overview", "node": "Node", "links": "Links", "placement": "Placement", "time": "Time",
}  # fmt: skip
SHORT: Final[dict[Screen, str]] = {
    "overview": "Over", "node": "Node", "links": "Link", "placement": "Place", "time": "Time",
}  # fmt: skip


class KeymapError(ValueError):
    """A key that cannot be assigned; one line."""


class Action(msgspec.Struct, frozen=True):
    name: str
    keys: tuple[str, ...]  # as Textual names them; the first is the one shown
    label: str  # one or two words, for the footer
    help: str  # a sentence without its full stop, for help and palette
    screens: tuple[Screen, ...] = ()  # () = every one
    footer: bool = True
    recording: bool = False  # only where there is a past to move to

    def on(self, screen: Screen) -> bool:
        return not self.screens or screen in self.screens


def _go(number: int, screen: Screen, what: str) -> Action:
    return Action(f"go_{screen}", (str(number),), TITLES[screen], what, footer=False)


ACTIONS: Final[tuple[Action, ...]] = (
    _go(1, "overview", "Which node slows the swarm down, and why"),
    _go(2, "node", "Everything about the chosen node"),
    _go(3, "links", "The matrix of all links"),
    _go(4, "placement", "The best placement found for the model, your own beside it, and their speed"),
    _go(5, "time", "Events, alerts and, in a recording, the time line"),
    # overview
    Action("filter", ("slash", "f3", "f4"), "filter", "Show only what matches: part of a name, or rtt99>200",
           ("overview",)),
    Action("sort", ("s", "f6"), "sort", "Choose the column to sort by", ("overview",)),
    Action("reverse", ("S", "shift+s"), "reverse", "Reverse the sort order", ("overview",), footer=False),
    Action("sort_left", ("left", "h"), "sort left", "Sort by the column to the left", ("overview",), footer=False),
    Action("sort_right", ("right", "l"), "sort right", "Sort by the column to the right", ("overview",), footer=False),
    Action("columns", ("c", "f2"), "columns", "Choose the columns; also lists those that do not fit", ("overview",)),
    Action("panels", ("v",), "panels", "Hide the chart and the token route, for a longer list; or show them again",
           ("overview",), footer=False),
    Action("follow", ("F", "shift+f"), "follow", "Keep the chosen node in sight, and report changes of its state",
           ("overview", "node")),
    # node
    Action("previous_node", ("left_square_bracket",), "previous", "Show the node before this one in the ranking",
           ("node",)),
    Action("next_node", ("right_square_bracket",), "next", "Show the node after this one in the ranking", ("node",)),
    Action("range", ("r",), "range", "Change how far back the charts go: 10 min, 1 h, 24 h", ("node",)),
    Action("metric", ("m",), "metric", "Show another metric", ("node", "links")),
    # links
    Action("look", ("v",), "view", "Show the matrix, a graph of the machines, a map, or the distributions", ("links",)),
    Action("pool", ("a",), "pool", "Change what a cell of many links shows: max, median or min", ("links",)),
    Action("group", ("b",), "group", "Show single nodes, or groups by region, device or state", ("links",)),
    Action("zoom_in", ("z",), "zoom", "Show half as many nodes, around the cursor (Z: twice as many)", ("links",)),
    Action("zoom_out", ("Z", "shift+z"), "zoom out", "Show twice as many nodes", ("links",), footer=False),
    Action("difference", ("d",), "diff", "Show differences from the mark (M), or the figures again", ("links",)),
    Action("cell_left", ("left", "h"), "left", "The cell to the left", ("links",), footer=False),
    Action("cell_right", ("right", "l"), "right", "The cell to the right", ("links",), footer=False),
    # placement
    Action("model", ("m",), "model", "Choose the model", ("overview", "placement")),
    Action("take", ("right",), "take", "The stage takes one layer from the next one", ("placement",), footer=False),
    Action("give", ("left",), "give", "The stage gives one layer to the next one", ("placement",), footer=False),
    Action("swap", ("s",), "swap", "Swap the stage with the next one", ("placement",)),
    Action("drop", ("d",), "drop", "Leave this stage's node out", ("placement",)),
    Action("add", ("plus",), "add", "Add a node at its best position", ("placement",)),
    Action("pane", ("tab",), "candidates", "Go to the candidates for this stage, and back; Enter takes one",
           ("placement",)),
    Action("undo", ("u",), "undo", "Undo the last edit of the what-if", ("placement",)),
    Action("undo_all", ("U", "shift+u"), "undo all", "Discard the what-if", ("placement",), footer=False),
    Action("optimise", ("o",), "optimise", "Find the best order and split of the what-if's nodes", ("placement",)),
    Action("launch", ("l",), "launch", "Show the commands that start this placement; copy, save or report them",
           ("placement",)),
    Action("running", ("R", "shift+r"), "runs now", "Report that this placement runs now: the what-if, else the best",
           ("placement",), footer=False),
    # the question
    Action("weights", ("w",), "weights", "Choose the weight format: fp16, int8, q4_k_m, …", footer=False),
    Action("engine", ("e",), "engine", "Choose the engine, which sets the hops between stages", footer=False),
    Action("workload", ("W", "shift+w"), "workload", "Change the whole workload: weights, context, batch, client, …",
           footer=False),
    Action("context", ("C", "shift+c"), "context", "Choose the context: tokens in the KV cache", footer=False),
    Action("batch", ("B", "shift+b"), "batch", "Choose the batch: sequences decoded together", footer=False),
    Action("streams", ("P", "shift+p"), "streams", "Choose the streams: requests in flight", footer=False),
    Action("client", ("H", "shift+h"), "client", "Choose the machine that sends prompts and gets the tokens",
           footer=False),
    Action("activations", ("A", "shift+a"), "activations", "Choose the activations between stages: fp16, fp32 or int8",
           footer=False),
    # lists
    Action("up", ("up", "k"), "up", "One line up", footer=False),
    Action("down", ("down", "j"), "down", "One line down", ("overview", "node", "links", "placement"), footer=False),
    Action("down_events", ("down",), "down", "One line down", ("time",), footer=False),
    Action("page_up", ("pageup",), "page up", "A page up", footer=False),
    Action("page_down", ("pagedown",), "page down", "A page down", footer=False),
    Action("first", ("home",), "first", "The first line", footer=False),
    Action("last", ("end", "G", "shift+g"), "last", "The last line", footer=False),
    Action("open", ("enter",), "open", "Open what the cursor is on"),
    Action("next_screen", ("tab",), "next screen", "Go to the next screen", ("overview", "node", "links", "time"),
           footer=False),
    # one machine
    Action("invite", ("i",), "invite", "Show the line that others paste to join, and its QR code", ("overview",),
           footer=False),
    Action("demo", ("d",), "demo", "Open a bundled recording of a swarm with a straggler", ("overview",), footer=False),
    # time
    Action("pause", ("space",), "pause", "Pause the screen, or resume it (recording continues)"),
    Action("step_back", ("T", "shift+t"), "step back", "Go one frame back", recording=True, footer=False),
    Action("step", ("t",), "step", "Go one frame forward", recording=True),
    Action("jump_back", ("J", "shift+j"), "jump back", "Go one minute back", ("time",), recording=True, footer=False),
    Action("jump", ("j",), "jump ±1m", "Go one minute forward (J: back)", ("time",), recording=True),
    Action("go_to", ("g",), "go to", "Go to a time: 14:02, 2026-11-23 14:02, -10m", recording=True),
    Action("next_event", ("n",), "next event", "Go to the next event", recording=True, footer=False),
    Action("previous_event", ("N", "shift+n"), "event before", "Go to the event before", recording=True, footer=False),
    Action("slower", ("less_than_sign",), "slower", "Play at half the speed", recording=True, footer=False),
    Action("faster", ("greater_than_sign",), "faster", "Play at twice the speed", recording=True, footer=False),
    Action("latest", ("L", "shift+l"), "latest", "Go to the newest frame", recording=True),
    # everywhere
    Action("back", ("escape",), "back", "Go back to where you came from; in the overview: drop the filter"),
    Action("mark", ("M", "shift+m"), "mark", "Mark this moment to compare with it (at the mark: remove it)",
           footer=False),
    Action("theme", ("ctrl+t",), "theme", "Choose the colours: dark, light, high contrast, the terminal's own",
           footer=False),
    Action("refresh", ("f5",), "refresh", "Plan again, and redraw the screen", footer=False),
    Action("export", ("x",), "export", "Save what this screen shows: CSV, JSON or a picture"),
    Action("copy", ("y",), "copy", "Copy what the cursor is on", footer=False),
    Action("palette", ("colon", "ctrl+p"), "palette", "Find an action by its name"),
    Action("help", ("question_mark", "f1"), "help", "Show all keys of this screen, and what the columns mean"),
    Action("quit", ("q", "ctrl+q", "f10"), "quit", "Quit; measurements continue where a collector runs"),
    Action("interrupt", ("ctrl+c",), "interrupt", "Leave with exit code 130", footer=False),
    Action("suspend", ("ctrl+z",), "suspend", "Go back to the shell; fg returns", footer=False),
)  # fmt: skip

BY_NAME: Final = {action.name: action for action in ACTIONS}

_SHOWN: Final = {
    "slash": "/", "question_mark": "?", "colon": ":", "plus": "+", "tab": "Tab",
    "left_square_bracket": "[", "right_square_bracket": "]",
    "less_than_sign": "<", "greater_than_sign": ">", "enter": "⏎", "escape": "Esc", "space": "Space", "up": "↑",
    "down": "↓", "left": "←", "right": "→", "pageup": "PgUp", "pagedown": "PgDn", "home": "Home", "end": "End",
}  # fmt: skip


def shown(key: str) -> str:
    """Return a key as people write it: `ctrl+c` is `Ctrl+C`, `slash` is `/`."""
    if key in _SHOWN:
        return _SHOWN[key]
    if key.startswith("ctrl+"):
        return "Ctrl+" + key.removeprefix("ctrl+").upper()
    if key.startswith("shift+"):
        return key.removeprefix("shift+").upper()
    return key.upper() if len(key) > 1 else key


def for_screen(screen: Screen, *, recording: bool, actions: tuple[Action, ...] = ACTIONS) -> tuple[Action, ...]:
    return tuple(a for a in actions if a.on(screen) and (recording or not a.recording))


def keymap(own: Mapping[str, str]) -> tuple[Action, ...]:
    """Return the registry with a person's own keys. Raises KeymapError for unknown actions and for keys assigned
    twice."""
    for name in own:
        if name not in BY_NAME:
            raise KeymapError(f"no action {name} to give the key {own[name]}; swarmtop's help lists them")
    actions = tuple(msgspec.structs.replace(a, keys=(own[a.name],)) if a.name in own else a for a in ACTIONS)
    for screen in SCREENS:
        taken: dict[str, str] = {}
        for action in for_screen(screen, recording=True, actions=actions):
            for key in action.keys:
                if key in taken:
                    raise KeymapError(f"the key {shown(key)} would be {taken[key]} and {action.name} on {screen}")
                taken[key] = action.name
    return actions
