"""Detect which tool wrote a file from its content, so that `swarmtop import FILE` needs no format.

Each kind has marks that no other has; the order matters only where one format contains another's words.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from swarmtop.imports import clusters, iperf3, pings
from swarmtop.imports.delimited_text import rows_of
from swarmtop.imports.findings import ImportProblem
from swarmtop.imports.gpu import json_output, prometheus_output, text_output
from swarmtop.imports.llama_bench import markdown as bench_table
from swarmtop.imports.llama_bench import rows as bench_rows

ADVICE: Final = "name the format, as in `swarmtop import matrix FILE`"
# What people paste that has too little in it, or is written for people: its mark, and what to run instead.
UNREADABLE: Final = (
    (r"^\[ *ID\] +Interval", "this is iperf3's text for people; run it with -J and import that"),
    (r"^CREATE TABLE .*\n *build_commit", "this is llama-bench's SQL; run it with -o json and import that"),
    (r"xmt/rcv/%loss", "this is fping's output; ping -c 20 HOST > FILE writes one that can be read"),
    (r"^\[\d+\] .*\|.*\|.*\d+ / \d+ MB", "this is gpustat's text for people; run gpustat --json and import that"),
    (r"ROCm System Management Interface", f"this is rocm-smi's text for people; {json_output.ROCM_ADVICE}"),
    (r"^ *MARKET_NAME: ", f"this is amd-smi's text for people; {json_output.AMD_ADVICE}"),
    (r"Device Information +\|", f"this is dcgmi's text for people; {text_output.ADVICE}"),
    (r"\A(?=.*(?:NVIDIA|GeForce|Quadro|Tesla|RTX)).*, *\d{4,6}(?: MiB)?$",
     f"this is a query of nvidia-smi without its header; {text_output.ADVICE}"),
)  # fmt: skip


def decoded(data: bytes) -> str:
    """The text of a file in UTF-8 or UTF-16 (what PowerShell's > writes), else in a Windows code page."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _text(data, "utf-16")
    if b"\0" in data[:200]:
        little = data[1:200:2].count(0) >= data[0:200:2].count(0)
        return _text(data, "utf-16-le" if little else "utf-16-be")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        printable = sum(byte >= 32 or byte in (9, 10, 13) for byte in data[:4096])
        if printable < 0.99 * len(data[:4096]):
            raise ImportProblem("this is not text") from None
        return data.decode("cp1252", "replace")


def _text(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding).lstrip("\ufeff")
    except UnicodeDecodeError as error:
        raise ImportProblem(f"this is not text in {encoding.upper()} ({error.reason})") from error


def kind_of(text: str) -> str:
    """A key of FORMATS in commands/data/import_.py. Raises ImportProblem if nothing fits."""
    stripped = text.lstrip("\ufeff \t\r\n")
    if not stripped:
        raise ImportProblem("this file is empty")
    if iperf3.is_stream(stripped.encode()):
        return "iperf3"
    for mark, said in UNREADABLE:
        if re.search(mark, stripped, re.MULTILINE):
            raise ImportProblem(said)
    if bench_rows.is_rows(stripped) or bench_table.is_table(stripped):
        return "llama-bench"
    if stripped.startswith("data:") or (stripped.startswith("{") and '"node_list"' in stripped):
        return clusters.kind_of(clusters.last_object(stripped)) or _kind_of_json(stripped)
    if stripped.startswith(("{", "[")) and not stripped.startswith("[["):
        return _kind_of_json(stripped)
    if stripped.startswith("<"):
        return "gpus"
    if "[[node]]" in stripped:
        raise ImportProblem("this is a swarm file already; swarmtop plan --swarm FILE uses it")
    if (
        text_output.is_query(stripped)
        or "NVIDIA-SMI" in stripped
        or "NVSMI LOG" in stripped
        or text_output.listed(stripped)
    ):
        return "gpus"
    if prometheus_output.is_metrics(stripped):
        return "gpus"
    if stripped.startswith(pings.CSV_HEAD) or re.search(r"^HOST:.*Loss%", stripped, re.MULTILINE):
        return "mtr"
    if pings.is_ping(stripped):
        return "ping"
    rows = rows_of(stripped if not text.startswith(("\t", ";", ",")) else text)
    if len(rows) >= 2 and len(rows[0]) >= 2:
        return "matrix"
    raise ImportProblem(f"cannot tell which tool wrote this; {ADVICE}")


def _kind_of_json(text: str) -> str:
    try:
        file = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ImportProblem(f"this looks like JSON but is invalid ({error})") from error
    if bench_rows.is_row(file) or (isinstance(file, list) and file and bench_rows.is_row(file[0])):
        return "llama-bench"
    if isinstance(file, dict) and (cluster := clusters.kind_of(file)) is not None:
        return cluster
    keys = _keys(file)
    if "model_reports" in keys:
        return "petals"
    if "report" in keys:
        return "mtr"
    if "round_trips" in keys or {"stats", "system_info"} <= keys:
        return "irtt"
    if "start" in keys and keys & {"end", "error", "intervals"}:
        return "iperf3"
    if keys & {"roundtrips", "histogram-latency", "summary", "result", "test"}:
        return "perfsonar"
    if "gpus" in keys or "gpu_data" in keys or any(re.fullmatch(r"card\d+", key) for key in keys) or _cards(file):
        return "gpus"
    raise ImportProblem(
        f"this JSON has {', '.join(sorted(keys)[:6]) or 'no keys'}, which no known tool writes; {ADVICE}"
    )


def _keys(file: Any) -> set[str]:
    return set(file) if isinstance(file, dict) else set()


def _cards(file: Any) -> bool:
    return isinstance(file, list) and bool(file) and isinstance(file[0], dict) and "gpu" in file[0]
