"""`swarmtop import`: build a swarm file from measurements of other tools, to plan without probes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from swarm_protocol.text import is_name, safe
from swarmtop.errors import DONE, UNREACHABLE, CommandError
from swarmtop.file_arguments import read_named, write_whole
from swarmtop.imports.detect_format import decoded, kind_of
from swarmtop.imports.findings import Found, ImportProblem
from swarmtop.progress import progress
from swarmtop.text.connection_failure import why_unreachable

if TYPE_CHECKING:
    from swarm_predict.model.shapes import ModelShape

EXAMPLE: Final = """
swarmtop import nvidia-smi.csv --node attic --into swarm.toml
swarmtop import http://localhost:52415/state --out exo.toml
swarmtop import petals https://health.petals.dev/api/v1/state --out petals.toml
swarmtop import llama-bench bench.json --node attic --into swarm.toml
swarmtop import matrix rtt.csv --out swarm.toml
swarmtop import irtt result.json --from attic --to lab --into swarm.toml
"""
MAX_BYTES: Final = 64 << 20
FETCH_WITHIN_S: Final = 30.0
FROM_URL: Final = ("petals", "exo", "mesh-llm", "gpus")


@dataclass(frozen=True, slots=True)
class Format:
    help: str
    read: Callable[[argparse.Namespace, bytes], Found]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "format",
        nargs="?",
        choices=(*FORMATS, *ALIASES),
        metavar="FORMAT",
        help="format of the input, one of those below (default: detected)",
    )
    parser.add_argument(
        "input",
        metavar="FILE|URL|-",
        help="the file; - is standard input; petals, exo, mesh-llm and gpus also take a URL",
    )
    out = parser.add_mutually_exclusive_group()
    out.add_argument("--out", metavar="FILE.toml", help="write a new swarm file there (default: print it)")
    out.add_argument("--into", metavar="FILE.toml", help="merge into this swarm file; values already there are kept")
    parser.add_argument("--from", dest="src", metavar="NODE", help="for a path: the sending machine (the client)")
    parser.add_argument("--to", dest="dst", metavar="NODE", help="for a path: the receiving machine (the server)")
    parser.add_argument("--node", metavar="NODE", help="for GPUs and llama-bench: the machine they belong to")
    parser.add_argument("--gpu", metavar="NAME", help="for llama-bench: the device, if the file does not name it")
    parser.add_argument(
        "--model",
        metavar="NAME|PATH",
        help="for petals: the model to import (default: the one most servers hold); for llama-bench: the model that "
        "was run (default: from its file's name or its parameters)",
    )
    parser.add_argument("--unit", choices=("ms", "s", "us"), default="ms", help="for a matrix: unit of its cells (ms)")
    table = "\n".join(f"  {name:<11} {known.help}" for name, known in FORMATS.items())
    parser.epilog = f"{parser.epilog}\n\nformats:\n{table}\n{GPU_FORMS}"


def run(args: argparse.Namespace) -> int:
    for name in (args.src, args.dst, args.node):
        if name is not None and not is_name(name):
            raise CommandError(f"{safe(name, 60)!r} is not a node name; take 1 to 32 of A-Z a-z 0-9 . _ -")
    kind = ALIASES.get(args.format, args.format)
    data = _input(args, kind)
    try:
        text = decoded(data)
        guessed = None if kind else kind_of(text)
        try:
            found = FORMATS[kind or str(guessed)].read(args, text.encode())
        except ImportProblem as problem:
            if guessed != "matrix":  # which any table may be
                raise
            raise ImportProblem(f"no known tool wrote this, and as a matrix of round trips: {problem}") from problem
        base = decoded(read_named(Path(args.into))) if args.into else ""
        text = _checked(found, base)
    except ImportProblem as problem:
        raise CommandError(f"{safe(args.input, 80)}: {safe(str(problem), 400)}") from problem
    for note in found.notes:
        print(safe(note, 400), file=sys.stderr)
    if args.out or args.into:
        target = Path(args.out or args.into)
        _replace(target, text, new=args.out is not None)
        print(
            f"{safe(str(target))} holds {len(found.names)} nodes of it now; next: swarmtop --swarm {target}",
            file=sys.stderr,
        )
    else:
        sys.stdout.write(text)
    return DONE


def _checked(found: Found, base: str) -> str:
    """The file's text, read back once: what is written can be used."""
    from swarm_protocol.swarm_files.swarm_file import SwarmFileError, parse_swarm
    from swarmtop.imports.swarm_file_writer import written

    text = written(found, base)
    try:
        parse_swarm(text)
    except SwarmFileError as error:
        raise ImportProblem(f"the resulting swarm file cannot be used ({error})") from error
    return text


# ---------------------------------------------------------------- formats


def _petals(args: argparse.Namespace, data: bytes) -> Found:
    from swarm_protocol.messages.running import Running, tidy
    from swarmtop.imports import petals
    from swarmtop.parsed_options import load_model

    known = petals.models(data)
    if args.model is None:
        name = known[0].name
        shape = _catalogued(petals.FINE_TUNED.get(name, name))
        if shape.layers != known[0].blocks:
            raise CommandError(
                f"{safe(name, 60)} has {known[0].blocks} blocks there, and {shape.name} {shape.layers} layers; "
                "give --model the name of one with the same shape, or its config.json"
            )
    else:
        shape = load_model(args.model)
        # by its name, else whatever has as many blocks: fine-tuned models have names of their own
        fitting = [model.name for model in known if _same(model.name, args.model) or _same(model.name, shape.name)]
        fitting += [model.name for model in known if model.blocks == shape.layers and model.online]
        if not fitting:
            offer = ", ".join(f"{safe(model.name, 60)} ({model.blocks} blocks)" for model in known)
            raise CommandError(f"no model there has the {shape.layers} layers of {shape.name}; there are {offer}")
        name = fitting[0]
    served = petals.read(data, name, shape)
    ask = f"--model {shape.name} --weights {served.weights} --engine petals"
    swarm = args.out or args.into or "FILE.toml"
    notes = [*served.found.notes, f"a better placement: swarmtop plan --swarm {swarm} {ask}"]
    if served.route is None:
        notes.append("no server holds some blocks (or none with a throughput), so there is no route now")
    else:
        notes.append(f"a present route: swarmtop predict --swarm {swarm} {ask} --placement '{served.route}'")
    running = None
    if served.route is not None and (placement := tidy(served.route)) is not None:
        running = Running(placement, "petals", shape.name, "petals monitor")
    return Found(served.found.nodes, served.found.links, tuple(notes), served.found.source, running)


def _catalogued(name: str) -> ModelShape:
    from swarm_predict.types import UnknownModel
    from swarmtop.parsed_options import load_model

    try:
        return load_model(name)
    except UnknownModel as error:
        what = f"{safe(name, 80)} is not in the catalogue"
        raise CommandError(f"{what}; give --model the name of one with the same shape, or its config.json") from error


def _same(theirs: str, ours: str) -> bool:
    return theirs.split("/")[-1].lower() == ours.split("/")[-1].lower()


def _matrix(args: argparse.Namespace, data: bytes) -> Found:
    from swarmtop.imports import rtt_matrix

    return rtt_matrix.read(data.decode(), args.unit)


def _irtt(args: argparse.Namespace, data: bytes) -> Found:
    from swarmtop.imports import irtt

    if args.src is None or args.dst is None:
        raise CommandError("irtt does not name the machines; give --from NODE --to NODE")
    return irtt.read(data, args.src, args.dst)


def _iperf3(args: argparse.Namespace, data: bytes) -> Found:
    from swarmtop.imports import iperf3

    return iperf3.read(data, args.src, args.dst)


def _perfsonar(args: argparse.Namespace, data: bytes) -> Found:
    from swarmtop.imports import perfsonar

    return perfsonar.read(data, args.src, args.dst)


def _ping(args: argparse.Namespace, data: bytes) -> Found:
    from swarmtop.imports import pings

    return pings.ping(data.decode(), args.src, args.dst)


def _mtr(args: argparse.Namespace, data: bytes) -> Found:
    from swarmtop.imports import pings

    return pings.mtr(data.decode(), args.src, args.dst)


def _gpus(args: argparse.Namespace, data: bytes) -> Found:
    from swarmtop.imports import gpu_monitors

    return gpu_monitors.read(data.decode(), args.node)


def _cluster(kind: str) -> Callable[[argparse.Namespace, bytes], Found]:
    def read(_: argparse.Namespace, data: bytes) -> Found:
        from swarmtop.imports import clusters

        readers = {"exo": clusters.exo, "parallax": clusters.parallax, "mesh-llm": clusters.mesh_llm}
        return readers[kind](data.decode())

    return read


def _llama_bench(args: argparse.Namespace, data: bytes) -> Found:
    from swarmtop.imports.llama_bench import layers
    from swarmtop.parsed_options import load_model

    model = None if args.model is None else load_model(args.model)
    return layers.read(data.decode(), args.node, model, args.gpu)


FORMATS: Final[dict[str, Format]] = {
    "petals": Format("the state of a Petals health monitor (…/api/v1/state), a file or a URL", _petals),
    "exo": Format("the state of an exo cluster (GET /state of a node), a file or a URL", _cluster("exo")),
    "parallax": Format("GET /cluster/status of Parallax' scheduler, a file", _cluster("parallax")),
    "mesh-llm": Format("GET /api/status of a mesh-llm node, a file or a URL", _cluster("mesh-llm")),
    "matrix": Format("round trips in CSV: a square with names on both edges, or src,dst,rtt_ms", _matrix),
    "irtt": Format("irtt client -o FILE.json; needs --from and --to", _irtt),
    "iperf3": Format("iperf3 -J; --from client --to server give the machines their names", _iperf3),
    "perfsonar": Format("pscheduler result --format json: rtt, throughput or latency", _perfsonar),
    "ping": Format("ping -c 20 HOST, of any system; --from and --to name the ends", _ping),
    "mtr": Format("mtr --json -c 20 HOST, --csv or --report", _mtr),
    "gpus": Format("nvidia-smi, amd-smi, rocm-smi, gpustat or an exporter (below); --node names the machine", _gpus),
    "llama-bench": Format("llama-bench -o json, jsonl, csv or its table: layer times of a machine", _llama_bench),
}
ALIASES: Final = dict.fromkeys(("nvidia-smi", "amd-smi", "rocm-smi", "gpustat", "dcgm", "nvitop", "all-smi"), "gpus")
GPU_FORMS: Final = """
cards are read from
  nvidia-smi --query-gpu=name,memory.total,memory.free --format=csv (or memory.used), its plain table, -q, -q -x, -L
  amd-smi static --asic --vram --json  ·  rocm-smi --showproductname --showmeminfo vram --json  ·  gpustat --json
  the metrics of DCGM, nvitop and all-smi exporters; each also by its own name, as `swarmtop import dcgm FILE`"""

# ---------------------------------------------------------------- files


def _input(args: argparse.Namespace, kind: str | None) -> bytes:
    if args.input == "-":
        data = sys.stdin.buffer.read(MAX_BYTES + 1)
    elif args.input.startswith(("http://", "https://")):
        if kind not in (*FROM_URL, None):
            *most, last = FROM_URL
            served = f"{', '.join(most)} and {last}"
            raise CommandError(f"a URL is taken for {served} only; save {kind}'s output and give the file")
        with progress(f"waiting for {safe(args.input, 80)}"):
            data = _fetched(args.input)
    else:
        if args.format is None and args.input in (*FORMATS, *ALIASES) and not Path(args.input).exists():
            raise CommandError(f"give a FILE after {args.input}, as in `swarmtop import {args.input} FILE`")
        data = read_named(Path(args.input))
    if len(data) > MAX_BYTES:
        raise CommandError(f"{safe(args.input, 80)} has more than {MAX_BYTES >> 20} MiB; no such result is that long")
    return data


def _fetched(url: str) -> bytes:
    import http.client
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(url, timeout=FETCH_WITHIN_S) as reply:
            return bytes(reply.read(MAX_BYTES + 1))
    except urllib.error.HTTPError as error:
        raise CommandError(
            f"{safe(url, 80)} answers {error.code} {safe(str(error.reason), 60)}", UNREACHABLE
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise CommandError(f"cannot reach {safe(url, 80)} ({why_unreachable(error)})", UNREACHABLE) from error


def _replace(path: Path, text: str, *, new: bool) -> None:
    """Write the swarm file; `new` never overwrites."""
    if new and path.exists():
        raise CommandError(f"{safe(str(path))} exists already; take another --out, or add to it with --into")
    write_whole(path, text.encode())
