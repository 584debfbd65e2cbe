"""Compute what people see of one frame: figures, plan, ranking, reasons. Used by dashboard and commands alike."""
