"""The weight format that a checkpoint says of itself, in its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swarm_predict.model.shapes import ModelShape


def own_format(shape: ModelShape, config: Mapping[str, Any]) -> ModelShape:
    return shape
