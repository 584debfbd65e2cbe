"""The commands that predict or plan a placement, explain a run, and calibrate the model with runs."""
