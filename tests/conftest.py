"""What all tests share: Hypothesis without deadlines, few collections of garbage, and which files run first."""

from __future__ import annotations

import gc
import os
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

# Several tests run at a time: the threads of one's matrices would spin for cores that the others have. Before numpy
# and torch.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is no finding: examples are counted, not timed (pytest's own limit ends what hangs).
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Longest first, each in one worker: begun last, it would keep the others waiting. Those that wait stand between those
# that compute, so that the cores have something to do.
LONGEST: Final = (
    "test_restart_loop.py",
    "test_serving_shared.py",
    "test_removed_files.py",
    "test_dash_goldens.py",
    "test_store_watch.py",
    "test_arrivals.py",
    "test_foreign_clients.py",
    "test_hf_families.py",
    "test_nats.py",
    "test_serving.py",
    "test_gloo_race.py",
    "test_replica_planning.py",
    "test_collector_process.py",
    "test_postgres.py",
    "test_documented_commands.py",
    "test_watched_engine.py",
    "test_floods.py",
    "test_claims_docs.py",
    "test_paths.py",
    "test_compute_supervisor.py",
    # the quiet ones: the first and the last take together what the second takes, and a worker has the next file early
    "test_interoperability.py",
    "test_lab.py",
    "test_whole_swarm.py",
)
_TURN: Final = {name: turn for turn, name in enumerate(LONGEST)}


# Collections of the garbage collector: after so many new objects, and every so many of the lower generation. A worker
# has half a million objects of tests that are not run yet and of packages, and would look through them again and again.
RARELY: Final = (20_000, 10, 50)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(*RARELY)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _TURN.get(item.path.name, len(LONGEST)))
