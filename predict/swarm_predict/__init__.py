"""Predict from numbers alone: model shapes, the cost model, the placement search, and what each straggler costs."""
