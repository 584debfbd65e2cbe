"""Learn from observed runs (`calibration_file`), fit the constants of an engine (`fit`), and fit the priors to
published
results."""
