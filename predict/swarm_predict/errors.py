"""Errors of prediction and planning."""

from __future__ import annotations


class PredictError(ValueError):
    """The question has no answer as asked; one line that says what, the value, and what to do.

    PredictError
    ├── UnknownModel        no such name, or a config.json that is not understood
    ├── BadPlacement        unknown node, overlapping or missing layers        (exit 2)
    ├── DoesNotFit          layers and KV cache exceed a node's memory         (exit 4)
    └── NotMeasured         a figure the answer needs is not there
    """


class UnknownModel(PredictError):
    pass


class BadPlacement(PredictError):
    pass


class DoesNotFit(PredictError):
    pass


class NotMeasured(PredictError):
    pass
