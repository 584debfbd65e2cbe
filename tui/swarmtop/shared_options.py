"""Define the options that commands share: the data source and the workload.

Only argparse here: `parsed_options` interprets the values, so that `--help` imports nothing heavy.
"""

from __future__ import annotations

import argparse
import os
from typing import Final, NoReturn, get_args

from swarm_predict.options import KV_CACHES, AllReduce, Engine
from swarm_protocol.addresses import DEFAULT_PORT
from swarmtop.option_types import address, draft, fingerprint, lengths, number, per_second, tree, when, whole

DEFAULT_MODEL: Final = "llama-3.1-8b"
TOKEN_VARIABLE: Final = "SWARMTOP_TOKEN"  # so that a token need not stand in a process list
MANY_OPTIONS: Final = 16
ENGINES: Final[tuple[str, ...]] = get_args(Engine)
ALL_REDUCES: Final[tuple[str, ...]] = get_args(AllReduce)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors take one line and whose --help ends with an example."""

    def __init__(self, prog: str, description: str, example: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=f"example:\n{_indented(example)}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def format_usage(self) -> str:
        self._shorten_usage()
        return super().format_usage()

    def format_help(self) -> str:
        self._shorten_usage()
        return super().format_help()

    def _shorten_usage(self) -> None:
        """Write [OPTIONS] for a command with so many that argparse's usage would fill the screen."""
        options = [action for action in self._actions if action.option_strings]
        if self.usage is not None or len(options) <= MANY_OPTIONS:
            return
        words = [f"{action.option_strings[-1]} {action.metavar}" for action in options if action.required]
        words.append("[OPTIONS]")
        words += [_positional(action) for action in self._actions if not action.option_strings]
        self.usage = " ".join([self.prog, *words]).replace("%", "%%")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _positional(action: argparse.Action) -> str:
    word = str(action.metavar or action.dest)
    return f"[{word}]" if action.nargs in ("?", "*") else word


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip().splitlines())


def add_source(parser: argparse.ArgumentParser, *, file: bool = True) -> None:
    """Define --connect, --db, --swarm and --nodes, of which at most one may be given."""
    group = parser.add_argument_group("data source (default: the collector on this machine)")
    one = group.add_mutually_exclusive_group()
    one.add_argument("--connect", metavar="HOST:PORT", type=address, help=f"a running collector (port {DEFAULT_PORT})")
    one.add_argument("--db", metavar="FILE", help="a recording: the database of a collector")
    if file:
        one.add_argument("--swarm", metavar="FILE.toml", help="a swarm file written by hand")
        one.add_argument(
            "--nodes",
            metavar="'4090@Utrecht fiber, …'",
            help="machines by name, without a file: [NAME=][Nx]DEVICE[@CITY] [LINE] [DOWN/UP], separated by commas",
        )
    add_token(group)
    group.add_argument(
        "--at",
        metavar="TIME",
        type=when,
        help="with --db: the time to show; -45s counts from its end (default: the last moment with machines online)",
    )


def add_token(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--token",
        default=os.environ.get(TOKEN_VARIABLE, ""),
        help=f"token, if the collector requires one (default: ${TOKEN_VARIABLE})",
    )
    parser.add_argument(
        "--fingerprint",
        type=fingerprint,
        metavar="SHA256:…",
        help="fingerprint of the collector's certificate (default: trust on first use)",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="allow plain text to another machine: anyone on the path can read it"
    )


def add_baselines(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--baselines",
        action="store_true",
        help="also print published results of others for models of this size (not measured here)",
    )


def add_arrivals(parser: argparse.ArgumentParser) -> None:
    """Define the request rate, lengths and concurrency of a service with many users."""
    group = parser.add_argument_group("many users")
    group.add_argument(
        "--arrivals", type=per_second, metavar="R/s", help="request arrival rate, for example 0.5/s or 30/min"
    )
    group.add_argument(
        "--generate",
        type=lengths,
        default=128,
        metavar="N",
        help="output tokens per request; lengths as for --prompt (128)",
    )
    group.add_argument(
        "--micro-batches",
        type=whole(1, 256),
        default=0,
        metavar="M",
        help="micro-batches in flight (default: the engine's, else enough to fill the pipeline)",
    )
    group.add_argument(
        "--max-sequences",
        type=whole(1, 65_536),
        default=0,
        metavar="N",
        help="concurrent requests at most (default: what fits in memory)",
    )


def add_question(parser: argparse.ArgumentParser) -> None:
    """Define everything that a prediction depends on, apart from the swarm itself."""
    _add_model_and_engine(parser)
    _add_load(parser)
    _add_speculation(parser)
    _add_verification(parser)
    _add_calibration(parser)


def _add_model_and_engine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model and engine")
    group.add_argument(
        "--model",
        metavar="NAME|PATH",
        help="a name, Hugging Face id, Ollama tag, config.json, folder or GGUF file (default: the running model, the "
        f"recording's, the swarm file's [model], else {DEFAULT_MODEL} or the largest smaller one that fits)",
    )
    group.add_argument(
        "--weights",
        metavar="FORMAT",
        help="fp16, int8, nvfp4, mlx-4bit, 4.5bpw, q4_k_m, … "
        "(default: the checkpoint's own, the recording's, else fp16 or the widest format that fits)",
    )
    group.add_argument(
        "--engine",
        choices=ENGINES,
        metavar="ENGINE",
        help=f"{', '.join(ENGINES)} (default: the running engine, else chain)",
    )
    group.add_argument(
        "--running",
        metavar="PLACEMENT",
        help="the placement that runs now, for example a:0-20,b:21-31 (default: as the data source reports)",
    )
    group.add_argument(
        "--client", metavar="NODE", help="node that receives the tokens (default: the file's, else the first stage)"
    )
    group.add_argument(
        "--activations",
        choices=("fp16", "fp32", "int8"),
        default="fp16",
        help="number format of activations between stages (fp16)",
    )
    group.add_argument(
        "--kv-cache", choices=KV_CACHES, default=KV_CACHES[0], help=f"number format of the KV cache ({KV_CACHES[0]})"
    )
    group.add_argument(
        "--all-reduce",
        choices=ALL_REDUCES,
        help="all-reduce algorithm of tensor-parallel nodes (default: the engine's)",
    )
    group.add_argument(
        "--prefill-chunk",
        type=whole(1, 10_000_000),
        default=0,
        metavar="N",
        help="prompt tokens per prefill chunk (default: the whole prompt)",
    )
    group.add_argument(
        "--offload-gbps",
        type=number(0, 10_000),
        default=0.0,
        metavar="X",
        help="offload weights that do not fit, to RAM or disk read at X GB/s (0: they must fit)",
    )
    group.add_argument("--offload-cache", action="store_true", help="with --offload-gbps: offload the KV cache too")


def _add_load(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("workload")
    group.add_argument(
        "--context", type=whole(0, 10_000_000), default=128, metavar="N", help="tokens in the KV cache (128)"
    )
    group.add_argument(
        "--prompt",
        type=lengths,
        default=128,
        metavar="N",
        help="prompt tokens, for TTFT (128); with --arrivals also lognormal:MEDIAN:P95 or a file of lengths",
    )
    group.add_argument(
        "--cached-prompt",
        type=whole(0, 10_000_000),
        default=0,
        metavar="N",
        help="prompt tokens already in a prefix cache (0)",
    )
    group.add_argument("--batch", type=whole(1, 65_536), default=1, metavar="B", help="sequences decoded together (1)")
    group.add_argument(
        "--streams",
        type=whole(1, 65_536),
        metavar="S",
        help="requests in flight (1; for plan --objective throughput: enough to fill the pipeline)",
    )


def _add_speculation(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("speculative decoding")
    group.add_argument(
        "--draft",
        type=draft,
        default=(0, (0.0,), 0.0),
        metavar="K:A[:MS]",
        help="K draft tokens a step, each accepted with probability A (or by position: "
        "0.9,0.8,…), MS milliseconds to draft each",
    )
    group.add_argument(
        "--tree",
        type=tree,
        default=(1, 0.0),
        metavar="B:A",
        help="with --draft: B alternatives at each position, each further one accepted with probability A",
    )
    group.add_argument(
        "--windows",
        type=whole(1, 64),
        metavar="W",
        help="with --draft: verify windows of one stream in flight at once (1)",
    )


def _add_verification(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("verification of untrusted machines")
    group.add_argument(
        "--redundancy",
        type=whole(1, 16),
        default=1,
        metavar="R",
        help="machines that compute each stage, with results compared (1)",
    )
    group.add_argument(
        "--spot-check",
        type=number(0, 1),
        default=0.0,
        metavar="P",
        help="fraction of steps recomputed later as a check (0)",
    )
    group.add_argument(
        "--proof-ms",
        type=number(0, 1e9),
        default=0.0,
        metavar="X",
        help="milliseconds to prove one layer for one token (0)",
    )


def _add_calibration(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("calibration")
    group.add_argument(
        "--calibration",
        action="append",
        metavar="FILE",
        help="file written by swarmtop calibrate (repeatable)",
    )
    group.add_argument(
        "--compute-scale",
        type=number(0.01, 100),
        metavar="X",
        help="ratio of measured to predicted compute time (1, or from --calibration)",
    )
    group.add_argument(
        "--hop-overhead-ms",
        type=number(0, 60_000),
        metavar="X",
        help="software overhead of each hop (0, or from --calibration)",
    )
    group.add_argument(
        "--client-ms",
        type=number(0, 60_000),
        metavar="X",
        help="client time per decode step (0, or from --calibration)",
    )
    group.add_argument(
        "--priors",
        choices=("published", "none"),
        default="published",
        help="how to price what is not measured: from published results of similar machines (published), or from "
        "data sheets alone (none)",
    )
    group.add_argument("--seed", type=whole(0, 2**31), default=0, metavar="N", help="seed of the bootstrap (0)")
