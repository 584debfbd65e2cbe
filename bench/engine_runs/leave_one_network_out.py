"""Predict runs by what the runs on other networks show: for each network, all constants are fitted to the others.

That is: the widths of `priors.engine_errors`, and what the software of engines and their kernels take, beside the
published results. So what is printed of error and coverage is of networks that no constant has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import patch

from bench.engine_runs.fit_widths import fit
from bench.engine_runs.report import Told
from bench.engine_runs.runs import Run
from bench.predicting.priors import with_software
from swarm_predict.calibration.calibration_file import learn, priors_of
from swarm_predict.priors import engine_errors
from swarm_predict.priors.posterior import Priors


def left_out(runs: Sequence[Run], priors: Priors) -> list[Told]:
    """Predict each run, and each after any one other run of its case on its machine. `priors`: of published results
    alone. Raises PredictError."""
    found: list[Told] = []
    for network in dict.fromkeys(run.network for run in runs):
        others = [run for run in runs if run.network != network]
        constants = fit(others, priors)
        with patch.object(engine_errors, "measured", lambda constants=constants: constants):
            wide = with_software(priors, constants.software)
            for run in (run for run in runs if run.network == network):
                found.append(Told(run, run.predicted_with(wide).tpot_ms))
                alike = [one for one in others if one.series == run.series]
                for one in alike:
                    after = priors_of([learn([one.observed()], wide)], wide)
                    found.append(Told(run, run.predicted_with(after).tpot_ms, one))
    return found
