"""Define the errors of prediction and planning."""

from __future__ import annotations


class PredictError(ValueError):
    """Base of all errors of prediction. The message is one line: what is wrong, the value, and what to do.

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
