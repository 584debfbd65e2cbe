"""Find the table row of a device by its name, as a driver prints it or a person types it.

Every word of a name has to be accounted for: a word that no row has ("Laptop", "Max-Q", a vGPU profile) makes the name
unknown and never falls back to the card without it. Words that say nothing about the chip (NVIDIA, GPU, Graphics) are
dropped, words that name a series (RTX, Tesla) may be missing, and memory sizes and board forms (80GB, SXM4) choose
among the rows of one name. A MIG device is that slice of its card.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from swarm_protocol.devices.data_sheets import Device, Row, of_memory, own_rows, processor, rows, rows_naming

_NOISE: Final = frozenset({
    "nvidia", "corporation", "amd", "ati", "advanced", "micro", "devices", "inc", "intel", "r", "tm", "geforce",
    "radeon", "graphics", "gpu", "generation", "edition", "series", "with", "design", "w", "card", "oam",
    "workstation", "desktop", "data", "center", "developer", "kit", "devkit", "model", "chip", "accelerator",
    "graphic", "soc", "gb", "gib", "unified", "memory", "vram", "engineering", "reference",
})  # fmt: skip
_SERIES: Final = frozenset({
    "rtx", "gtx", "gt", "rx", "hd", "arc", "quadro", "tesla", "instinct", "jetson", "apple", "raspberry",
    "firepro", "pro", "max",
})  # fmt: skip
_DROPPED_SERIES: Final = _SERIES - {"pro", "max"}  # "M3" is not the M3 Pro
_LEFT_OUT: Final = _SERIES | {"ai"}  # "W7700" and "R9700" are the Radeon (AI) PRO of that number: no other has it
_FORMS: Final = frozenset({
    "pcie", "sxm", "sxm2", "sxm3", "sxm4", "sxm5", "sxm6", "nvl", "hbm", "hbm2", "hbm2e", "hbm3", "hbm3e",
    "dgxs", "fhhl",
})  # fmt: skip
# Which maker a name belongs to, by words that only one maker uses.
_MAKERS: Final = {
    **dict.fromkeys(("nvidia", "geforce", "quadro", "tesla", "titan", "gtx", "rtx", "jetson"), "NVIDIA"),
    **dict.fromkeys(("amd", "ati", "radeon", "firepro", "instinct", "rx"), "AMD"),
    **dict.fromkeys(("intel", "arc", "iris"), "Intel"),
}
_AMBIGUOUS: Final = frozenset({("rtx", "3000"), ("rtx", "4000"), ("rtx", "5000"), ("rtx", "6000")})  # Turing or Ada
# (what a name must contain, pattern, what to read instead): a pattern is compiled once a name may match it
_REWRITTEN: Final = (
    ("(", r"\((r|tm|radv[^)]*)\)", " "),
    ("®", "®", " "),
    ("™", "™", " "),
    ("©", "©", " "),
    ("max", r"\bmax[\s-]?q\b", " maxq "),
    ("rev", r"\brev(ision)?\s+\d+(\.\d+)?", " "),
    ("model", r"\bmodel\s+[ab](\+)?(?=\s|$)", " "),
    ("mac", r"mac\s?book\s+(pro|air)|mac\s+(mini|studio|pro)|\bimac\b|\bmacbook\b", " apple "),
    ("core", r"(\d)\s*-?core\b", r"\1 core"),
    ("+", r"(?<=\d)\+|\+(?=\s|$)", " plus "),
)
_MEMORY: Final = re.compile(r"^(\d+(?:\.\d+)?)(?:gb|gib|g)$")
_MIG: Final = re.compile(r"\bmig\s+(\d)(?:c\.\d)?g\.(\d+)gb(?:\+\S+)?", re.IGNORECASE)
_MIG_MEMORY_SLICES: Final = 8
_MEMORY_TOLERANCE: Final = 0.08  # drivers show a few per cent less than is on the card
UNIFIED_SIZES: Final = frozenset((4, 8, 12, 16, 18, 24, 32, 36, 48, 64, 96, 128, 192, 256, 384, 512))
_NEAREST: Final = 3
_LIKE_ENOUGH: Final = 0.6  # of difflib, for names that share no number


class _Words(msgspec.Struct, frozen=True):
    key: frozenset[str]  # what names the chip
    forms: frozenset[str]
    memory_gib: float | None
    makers: frozenset[str] = frozenset()  # empty: the name does not say


@functools.lru_cache(maxsize=4096)
def find(name: str, memory_gib: float | None = None) -> Device | None:
    """Return the device called `name`; None: not in the table. `memory_gib`, where a driver states it, chooses a
    size."""
    text = re.sub(r"\s+#\d+$", "", name.strip())  # as probes number the GPUs of one machine
    if match := _MIG.search(text):
        whole = find(text[: match.start()] + text[match.end() :])
        return None if whole is None else _slice(whole, int(match[1]), float(match[2]))
    if text.lower().startswith("cpu:"):
        return _processor(text[4:], memory_gib)
    words = _words(text)
    found = _candidates(words)
    if words.memory_gib is not None and (row := _exact().get(_spelled(text))) is not None:
        return row.device
    if not found and (short := _without_size(text)) is not None:
        rest, size = short
        found = [row for row in _candidates(_words(rest)) if _comes_with(row.device, size)]
        if found:
            words, memory_gib = msgspec.structs.replace(_words(rest), memory_gib=size), size
    device = _chosen(found, words, memory_gib)
    if device is None and found and words.memory_gib is not None:  # "m6000 24gb" is no FirePro M6000, which has 1 GB
        device = _chosen(_rows_of(_longer(words.key), words), words, memory_gib)
    if device is None and not found:
        rest, size_gib = _without_size(text) or (text, words.memory_gib)
        return _processor(rest, memory_gib if size_gib is None else size_gib)
    return device


def nearest(name: str, count: int = _NEAREST) -> list[str]:
    """Return names of the table that look most like `name`: of its series, with the most similar model number."""
    wanted = _spelled(name)
    number = _model_number(wanted)
    if number is None:
        return _similar_text(wanted, count)
    words, makers = _plain(wanted, number), _words(name).makers
    series = words & _DROPPED_SERIES
    scored: list[tuple[tuple[int, ...], str]] = []
    for tokens, shown in _display_names().items():
        other = _model_number(tokens)
        held = _words_of(shown).makers
        if other is None or (makers and held and not makers & held):
            continue
        others = _plain(tokens, other)
        if not series:  # left out, as in "4090": then no series counts
            others -= _DROPPED_SERIES
        edits, same_prefix = _edits(number.text, other.text), number.prefix == other.prefix
        of_series = bool(series) and series <= others and same_prefix
        same_words = same_prefix and bool(number.prefix) and (edits == 0 or bool(words & others))
        if of_series or same_words or (edits <= 1 and len(number.text) > 1):
            far = abs(number.value - other.value)
            scored.append((
                (len(series - others), not same_prefix, edits, len(number.text) != len(other.text),
                 len(words ^ others), far), shown,
            ))  # fmt: skip
    return [shown for _, shown in sorted(scored)[:count]]


def _similar_text(wanted: tuple[str, ...], count: int) -> list[str]:
    """Return the names most similar to one without a model number."""
    matcher = difflib.SequenceMatcher(b=" ".join(wanted))
    scored: list[tuple[float, str]] = []
    for tokens, shown in _display_names().items():
        matcher.set_seq1(" ".join(tokens))
        if matcher.quick_ratio() >= _LIKE_ENOUGH and (ratio := matcher.ratio()) >= _LIKE_ENOUGH:
            scored.append((ratio, shown))
    return [shown for _, shown in sorted(scored, reverse=True)[:count]]


class _ModelNumber(msgspec.Struct, frozen=True):
    token: str  # "mi250x"
    prefix: str  # "mi"
    text: str  # "250x"
    value: int  # 250


def _plain(tokens: Iterable[str], number: _ModelNumber) -> frozenset[str]:
    """Return the words beside the model number, without board forms and memory sizes."""
    return frozenset(each for each in tokens if each != number.token and not _MEMORY.fullmatch(each)) - _FORMS


def _model_number(tokens: Iterable[str]) -> _ModelNumber | None:
    """Return the token with the most digits, memory sizes aside; None: no token has any."""
    found = [
        _ModelNumber(token, match[1], match[2] + match[3], int(match[2])) for token in tokens
        if not _MEMORY.fullmatch(token) and (match := re.fullmatch(r"([a-z]*)(\d+)(.*)", token))
    ]  # fmt: skip
    return max(found, key=lambda number: sum(map(str.isdigit, number.text)), default=None)


def _edits(one: str, other: str) -> int:
    """Return how many characters must be inserted, removed or replaced to make `other` of `one` (Levenshtein)."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]


# ---------------------------------------------------------------- words


def _tokens(name: str) -> list[str]:
    text = name.lower()
    for sign, pattern, instead in _REWRITTEN:
        if sign in text:
            text = re.sub(pattern, instead, text)
    if "tb" in text or "tib" in text:
        text = re.sub(r"(\d+)\s*ti?b\b", lambda size: f"{1024 * int(size[1])}gb", text)
    found: list[str] = []
    for word in re.findall(r"[a-z0-9.]+", text):
        word = word.strip(".")
        if match := re.fullmatch(r"(rtx|gtx|gt|rx|hd|arc|quadro|pi)(\d.*|[aptvk]\d.*)", word):
            found.append(match[1])
            word = match[2]
        if match := re.fullmatch(r"(\d{3,4})(ti|super|xtx|xt|gre|d)(super)?", word):
            found += [match[1], match[2], *([match[3]] if match[3] else [])]
        elif word == "tisuper":
            found += ["ti", "super"]
        elif word:
            found.append(word)
    joined: list[str] = []
    for word in found:
        if word in ("gb", "gib") and joined and re.fullmatch(r"\d+(\.\d+)?", joined[-1]):
            joined[-1] += "gb"
        else:
            joined.append({"mobile": "laptop", "notebook": "laptop", "raspberrypi": "raspberry"}.get(word, word))
    return joined


def _words(name: str) -> _Words:
    tokens = _tokens(name)
    memory = [float(match[1]) for token in tokens if (match := _MEMORY.fullmatch(token))]
    plain = [token for token in tokens if not _MEMORY.fullmatch(token) and token not in _NOISE]
    if "pi" in plain:
        plain = [token for token in plain if token != "b"]
    forms = frozenset(plain) & _FORMS
    makers = frozenset(_MAKERS[token] for token in tokens if token in _MAKERS)
    return _Words(frozenset(plain) - _FORMS, forms, memory[0] if len(memory) == 1 else None, makers)


def _without_size(name: str) -> tuple[str, float] | None:
    """Split `m2-max-64` into (`m2-max`, 64), and `v100 32` into (`v100`, 32): sizes without their unit."""
    match = re.fullmatch(r"(.*\S)[\s-]+(\d+)\s*(?:gb|gib|g)?", name.strip(), re.IGNORECASE)
    if match is None or int(match[2]) not in UNIFIED_SIZES:
        return None
    return match[1], float(match[2])


def _comes_with(device: Device, size_gib: float) -> bool:
    """Return whether there is such a machine with unified memory, or such a card."""
    return device.unified if device.memory_gib is None else _near(device.memory_gib, size_gib)


# ---------------------------------------------------------------- the table


@functools.lru_cache(maxsize=256)
def _index(number: str) -> dict[frozenset[str], list[tuple[frozenset[str], Row]]]:
    """Return key → rows with their board forms. Our own rows come first and hide GPUs with the same key. Only rows with
    `number` in a name: reading all 1,600 names into words takes longer than a small swarm's whole start may."""
    index: dict[frozenset[str], list[tuple[frozenset[str], Row]]] = {}
    some = rows_naming(number)
    ours = {_words(row.device.name).key for row in some if row.ours}
    for row in some:
        words = _words(row.device.name)
        if words.key in ours and not row.ours:
            continue
        held = index.setdefault(words.key, [])
        if all(other.device.memory_gib != row.device.memory_gib or forms != words.forms for forms, other in held):
            held.append((words.forms, row))
        for alias in row.aliases:
            other_words = _words(alias)
            index.setdefault(other_words.key, []).append((words.forms | other_words.forms, row))
    return index


@functools.cache
def _exact() -> dict[tuple[str, ...], Row]:
    """Return aliases word for word: some driver names state another memory than the GPU's ("GH200 480GB")."""
    return {_spelled(alias): row for row in reversed(own_rows()) for alias in row.aliases}


def _spelled(name: str) -> tuple[str, ...]:
    return tuple(token for token in _tokens(name) if token not in _NOISE)


@functools.lru_cache(maxsize=256)
def _by_bare_key(number: str) -> dict[frozenset[str], set[frozenset[str]]]:
    bare: dict[frozenset[str], set[frozenset[str]]] = {}
    for key in _index(number):
        bare.setdefault(key - _DROPPED_SERIES, set()).add(key)
    return bare


@functools.cache
def _display_names() -> dict[tuple[str, ...], str]:
    ours = {_words(row.device.name).key for row in rows() if row.ours}
    shown = [row for row in rows() if row.ours or _words(row.device.name).key not in ours]
    return {_spelled(row.device.name): row.device.name for row in reversed(shown)}


def _number(key: frozenset[str]) -> str:
    """Return the digits that every row of such a key has in its name; empty: it has none."""
    return max((digits for word in key - _DROPPED_SERIES for digits in re.findall(r"\d+", word)), key=len, default="")


def _candidates(words: _Words) -> list[Row]:
    if not words.key or tuple(sorted(words.key, key=lambda w: w.isdigit())) in _AMBIGUOUS:
        return []
    number = _number(words.key)
    index = _index(number)
    keys: Iterable[frozenset[str]] = (words.key,) if words.key in index else _shorter(words.key)
    found = _rows_of(keys, words)
    if not found and "laptop" not in words.key and not _by_bare_key(number).get(words.key - _DROPPED_SERIES):
        # before the 30 series, drivers name laptop cards like desktop ones: a chip that only laptops have is the laptop
        # card
        return _candidates(msgspec.structs.replace(words, key=words.key | {"laptop"}))
    return found


def _rows_of(keys: Iterable[frozenset[str]], words: _Words) -> list[Row]:
    index = _index(_number(words.key))
    return [
        row for key in keys for forms, row in index[key] if _has_forms(forms, words.forms) and _makers_agree(row, words)
    ]


def _has_forms(held: frozenset[str], asked: frozenset[str]) -> bool:
    """Return whether a row has the requested board forms; "SXM" alone is any generation of it."""
    return all(form in held or (form == "sxm" and any(each.startswith("sxm") for each in held)) for form in asked)


def _makers_agree(row: Row, words: _Words) -> bool:
    """Return whether the makers agree: an AMD 780M is no GeForce GTX 780M."""
    makers = _words_of(row.device.name).makers
    return not makers or not words.makers or bool(makers & words.makers)


@functools.lru_cache(maxsize=4096)
def _words_of(name: str) -> _Words:
    return _words(name)


def _shorter(key: frozenset[str]) -> list[frozenset[str]]:
    """Return keys that have the same words and more of a series: `4090` is the RTX 4090. Several are ambiguous."""
    longer = _longer(key)
    if not longer and any(re.fullmatch(r"[a-z]\d{4}", word) for word in key):
        longer = [full for full in _index(_number(key)) if key <= full and full - _LEFT_OUT == key - _LEFT_OUT]
    return longer if len(longer) == 1 else []


def _longer(key: frozenset[str]) -> list[frozenset[str]]:
    bare = _by_bare_key(_number(key))
    return [full for full in bare.get(key - _DROPPED_SERIES, ()) if key <= full]


def _chosen(found: list[Row], words: _Words, memory_gib: float | None) -> Device | None:
    if words.memory_gib is not None:
        found = [
            row for row in found
            if row.device.memory_gib is None or _near(row.device.memory_gib, words.memory_gib)
        ]  # fmt: skip
    elif memory_gib is not None and len(found) > 1:
        found = sorted(found, key=lambda row: abs((row.device.memory_gib or memory_gib) - memory_gib))
    if not found:
        return None
    device = found[0].device
    size = words.memory_gib if words.memory_gib is not None else memory_gib
    if not device.unified:
        return device
    if size is None and len({row.device.memory_gib for row in found}) > 1:  # a board that is sold in several sizes
        return msgspec.structs.replace(device, name=re.sub(r" \d+ GB$", "", device.name), memory_gib=None)
    return of_memory(device, size) if size is not None else device


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= max(0.6, _MEMORY_TOLERANCE * max(one, other))


def _processor(name: str, memory_gib: float | None) -> Device | None:
    device = processor(name)
    return of_memory(device, memory_gib) if device is not None and memory_gib is not None else device


def _slice(whole: Device, compute: int, memory_gib: float) -> Device | None:
    """Return a MIG device: memory comes in eighths with their bandwidth, compute in sevenths (or fourths)."""
    if whole.memory_gib is None or memory_gib > whole.memory_gib:
        return None
    eighths = max(1, round(_MIG_MEMORY_SLICES * memory_gib / whole.memory_gib))
    parts = 4 if whole.name.startswith(("A30", "RTX PRO")) else 7
    return msgspec.structs.replace(
        whole,
        name=f"{whole.name} MIG {compute}g.{memory_gib:g}gb",
        memory_gib=memory_gib,
        mem_gbps=whole.mem_gbps * eighths / _MIG_MEMORY_SLICES,
        tflops=None if whole.tflops is None else whole.tflops * min(1.0, compute / parts),
    )
