"""Collect the readings of machines until a snapshot shows them. Pure.

A machine with several GPUs sends a sample for each: they are one reading, complete when all have come, or when the next
one begins. A thousand readings may come a second, so their figures are only computed for a snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from swarm_protocol.messages.samples import HostSample
from swarm_protocol.snapshot.links.link_figures import is_later
from swarm_protocol.snapshot.nodes.live_node import GpuReading, LiveNode
from swarm_protocol.snapshot.nodes.node_figures import cards_of, host_figures, named


class HostReadings:
    """The newest reading of each node that is not in its columns yet."""

    def __init__(self, nodes: Sequence[LiveNode], columns: dict[str, npt.NDArray[Any]]) -> None:
        """Create it. `nodes`, `columns`: the builder's, which change and grow in place."""
        self._nodes = nodes
        self._columns = columns
        self._complete: dict[int, list[HostSample]] = {}

    def add(self, i: int, sample: HostSample) -> bool:
        """Take a sample of the node in row `i`. Return False if a later one is known."""
        node = self._nodes[i]
        seen_ns, known_ns = int(self._columns["seen_ns"][i]), int(self._columns["host_at_ns"][i])
        if not is_later(seen_ns, known_ns, sample.at_ns):
            return False
        expected = len(node.facts.gpus) if node.facts is not None else 1
        if node.reading is not None and node.reading.at_ns == sample.at_ns:
            node.reading.samples.append(sample)
        else:
            if node.reading is not None and node.reading.at_ns < sample.at_ns:
                self._keep(i, node.reading.samples)
            node.reading = GpuReading(sample.at_ns, [sample])
        if sample.gpu is None or len(node.reading.samples) >= expected:
            self._keep(i, node.reading.samples)
            node.reading = None
        return True

    def _keep(self, i: int, samples: list[HostSample]) -> None:
        self._complete[i] = samples
        self._columns["host_at_ns"][i] = samples[-1].at_ns

    def show(self) -> None:
        """Write the figures of what has come into the columns."""
        for i, samples in self._complete.items():
            node = self._nodes[i]
            for name, value in host_figures(samples, node.facts).items():
                self._columns[name][i] = np.nan if value is None else value
            gpus = [sample.gpu for sample in samples if sample.gpu is not None]
            node.set_device(named(gpus), cards_of(samples))
        self._complete.clear()
