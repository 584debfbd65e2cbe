"""Define what the daemon writes to the child (one Job, a line of JSON) and what the child writes back (Reports).

No torch here: both sides import it. Values are checked at decoding, so that a faulty child never puts a sample into the
spool that the collector would refuse.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from swarm_protocol.messages.probe_messages import (
    Challenge,
    ChallengeCommit,
    ChallengeGo,
    ChallengeOpen,
    ChallengeOpened,
    ChallengeReady,
    ComputeTask,
)
from swarm_protocol.messages.samples import ComputeSample, RooflineSample

MAX_LINE_BYTES: Final = 1 << 20  # the outputs that a challenge requests
MAX_BUDGET_S: Final = 120.0  # of one task, whatever the collector requests


class Job(msgspec.Struct, frozen=True, kw_only=True):
    task: ComputeTask | None = None
    challenge: Challenge | None = None  # instead of a task; the rest follows line by line
    node_id: str = ""  # the node that answers it
    ram_limit_bytes: int  # of the whole child process
    lock_path: str = ""  # held while measuring; empty: none
    nice: Annotated[int, Meta(ge=0, le=19)] = 10
    away_s: Annotated[float, Meta(ge=0, le=1)] = 0.05  # what a token spends elsewhere, before each visit


class Waiting(msgspec.Struct, frozen=True, kw_only=True, tag="waiting"):
    """Another probe of this machine is measuring (two at once would disturb each other), or a GPU is busy."""

    why: str = "another probe of this machine"


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The wait is over; torch is about to be loaded."""


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started"):
    device: str


class Measured(msgspec.Struct, frozen=True, kw_only=True, tag="measured"):
    sample: ComputeSample | RooflineSample


class Trouble(msgspec.Struct, frozen=True, kw_only=True, tag="trouble"):
    """One requested figure is missing; the others continue."""

    reason: str


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    pass


Report = Waiting | Ready | Started | Measured | Trouble | Done | ChallengeReady | ChallengeCommit | ChallengeOpened
Order = ChallengeGo | ChallengeOpen  # what the daemon passes on while a challenge is answered

_encoder = msgspec.json.Encoder()
_job_decoder = msgspec.json.Decoder(Job)
_order_decoder: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)
_report_decoder: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)


def order_from_line(line: bytes) -> Order:
    """Decode an order. Raises msgspec.DecodeError."""
    return _order_decoder.decode(line)


def to_line(message: Job | Report | Order) -> bytes:
    return _encoder.encode(message) + b"\n"


def job_from_line(line: bytes) -> Job:
    """Decode a job. Raises msgspec.DecodeError."""
    return _job_decoder.decode(line)


def report_from_line(line: bytes) -> Report:
    """Decode a report. Raises msgspec.DecodeError."""
    return _report_decoder.decode(line)
