"""Capture work as a CUDA graph: one launch for all its kernels, as engines run a decode step.

Launched one by one from Python, the twenty kernels of a layer cost more time than most layers take on a fast GPU; the
processor would be measured instead. Routed experts cannot be captured (they query the device for the chosen ones).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from swarm_protocol.layer_shape import LayerShape

WARM_UPS = 2  # allocations and kernel choice must not be captured


def captures(torch_name: str, shape: LayerShape | None = None) -> bool:
    """Return whether work with these layers (None: without any) can be captured on this device of torch."""
    return torch_name.startswith("cuda") and (shape is None or not shape.experts)


@torch.inference_mode()
def captured(torch_name: str, act: Callable[[], object]) -> Callable[[], object]:
    """Return a function that replays `act` with the inputs of the capture; its results stay where they are."""
    with torch.cuda.device(torch_name):
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                act()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            act()
    return graph.replay
