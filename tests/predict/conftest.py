"""Lets the test modules of this folder import what they share (importlib mode puts no folder on the path), and has them
ask with neutral priors: data sheets and hand-written figures at their word, so that the arithmetic shows. Modules about
the priors themselves say so with `pytestmark = pytest.mark.priors`."""

import sys
from pathlib import Path

import pytest

from swarm_predict.priors import posterior

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def neutral_priors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("priors") is None:
        monkeypatch.setattr(posterior, "fitted", lambda: posterior.NEUTRAL)
