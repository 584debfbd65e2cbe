"""Predict each run of a watched engine on its swarm, and store the runs.

A run is predicted with the prompt and the context that it had. A collector's newest state is asked again for each run,
a file or a recording once.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarmtop.sources.source import SourceError
from swarmtop.watch.completion_stream import Observation

if TYPE_CHECKING:
    from swarm_predict.explain.disagreement import Watched
    from swarm_predict.model.shapes import ModelShape
    from swarm_predict.types import Prediction, Workload
    from swarm_protocol.messages.samples import RunSample
    from swarm_protocol.snapshot.swarm import Swarm
    from swarmtop.analysis.open_question import CompleteQuestion
    from swarmtop.sources.source import Source


@dataclass(frozen=True, slots=True)
class Compared:
    """A run and its prediction."""

    prediction: Prediction
    watched: Watched | None  # None: the run has no time per token, or several requests shared the engine


class Comparison:
    """Use within `async with`. Without --placement and --connect it compares nothing and keeps nothing.

    Without --placement a collector's running placement is compared with, if it is one of the model in question."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._source: Source | None = None
        self._swarm: Swarm | None = None
        self._reported: CompleteQuestion | None = None  # of the running placement that a collector reports
        self.earlier: tuple[
            Watched, ...
        ] = ()  # stored runs of other placements, which show what a difference grows with

    async def __aenter__(self) -> Comparison:
        from swarmtop.parsed_options import open_source
        from swarmtop.sources.source import first_frame

        if self._args.placement or self._args.connect:
            self._source = open_source(self._args)
            self._swarm = await first_frame(self._source)
            if not self._args.placement and not self._args.baseline:
                await asyncio.to_thread(self._use_running, self._swarm)
            if self._args.placement:  # a wrong placement is reported before anything is requested
                await asyncio.to_thread(self._compare, self._swarm, None, 0)
                self.earlier = await asyncio.to_thread(self._kept, self._swarm)
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._source is not None:
            await self._source.close()

    async def of(self, what: Observation, at_ns: int) -> Compared | None:
        """Return the comparison; None if what runs was not given. Raises SourceError and PredictError."""
        from swarmtop.sources.source import first_frame

        if not self._args.placement or self._source is None or self._swarm is None:
            return None
        if self._source.mode == "live":
            self._swarm = await first_frame(self._source)
        return await asyncio.to_thread(self._compare, self._swarm, what, at_ns)

    async def keep(self, run: RunSample) -> None:
        """Send the run to the collector, if one was named. A failure is reported and ends nothing."""
        from swarmtop.sources.live import LiveSource

        if self._args.connect and isinstance(self._source, LiveSource):
            try:
                await self._source.report(run)
            except SourceError as error:
                print(f"swarmtop: {error}", file=sys.stderr, flush=True)

    def _use_running(self, swarm: Swarm) -> None:
        """Compare with what the collector was told that runs; if it cannot be, say why there is no prediction."""
        from swarm_predict.placement import parse_placement
        from swarm_predict.types import PredictError
        from swarmtop.parsed_options import question

        try:
            if swarm.running is None or not swarm.running.placement:
                raise PredictError("the collector was not told what runs; give --placement")
            _, found = question(self._args, swarm)
            parse_placement(swarm.running.placement, found.model, swarm, found.workload.engine)
        except PredictError as error:
            print(f"swarmtop: no prediction: {error}", file=sys.stderr, flush=True)
            return
        self._args.placement, self._reported = swarm.running.placement, found

    def _compare(self, swarm: Swarm, what: Observation | None, at_ns: int) -> Compared:
        from swarm_predict.explain.disagreement import Watched, parts_of
        from swarm_predict.forecast.prediction import predict
        from swarm_predict.placement import parse_placement

        model, load = self._question(what)
        placement = parse_placement(self._args.placement, model, swarm, load.engine)
        found = predict(swarm, model, placement, load)
        if what is None or what.tpot_ms is None or what.shared:
            return Compared(found, None)
        token, first = parts_of(swarm, model, placement, load, found)
        tpot = found.tpot_ms
        run = Watched(at_ns, what.tpot_ms, tpot.p5, tpot.p50, tpot.p95, token)
        if first is not None and what.ttft_ms is not None and what.prompt_tokens is not None:
            then = found.ttft_ms
            took_ms = what.ttft_ms - (what.before_ms or 0.0)  # nothing of the prediction is before it
            run = dataclasses.replace(run, first_ms=took_ms, first_p50_ms=then.p50, first_p95_ms=then.p95, first=first)
        return Compared(found, run)

    def _kept(self, swarm: Swarm) -> tuple[Watched, ...]:
        """Return own runs of other placements of this model, oldest first, with what was predicted for them then."""
        from swarm_predict.explain.disagreement import FITTED
        from swarm_predict.placement import parse_placement
        from swarmtop.analysis.runs.engine_runs import placement_text
        from swarmtop.analysis.runs.watched_runs import watched_runs

        model, load = self._question(None)
        here = placement_text(parse_placement(self._args.placement, model, swarm, load.engine))
        others = [run for run in swarm.runs if run.placement != here]
        return tuple(run for _, run in watched_runs(swarm, model, load, others[-FITTED:]))

    def _question(self, what: Observation | None) -> tuple[ModelShape, Workload]:
        """Return the workload with the prompt and the context of the run; where the engine reported them, also with the
        cached tokens of the prompt and the accepted guesses."""
        from swarm_predict.model.kv_cache_formats import with_kv_cache
        from swarmtop.parsed_options import load_model, workload

        if self._reported is not None:
            model, load = self._reported.model, self._reported.workload
        else:
            model, load = with_kv_cache(load_model(self._args.model), self._args.kv_cache), workload(self._args)
        if what is not None and what.prompt_tokens and what.answers is not None:
            context = what.prompt_tokens + what.tokens // 2
            cached = min(what.cached_tokens or 0, what.prompt_tokens - 1)
            load = dataclasses.replace(load, prompt=what.prompt_tokens, context=context, cached_prompt=cached)
        if what is not None and what.acceptance is not None:  # --draft still says how long a guess takes
            seen = what.acceptance
            load = dataclasses.replace(
                load,
                draft_tokens=seen.guesses,
                draft_accept=seen.chances[0],
                draft_profile=seen.chances if len(seen.chances) > 1 else (),
            )
        return model, load
