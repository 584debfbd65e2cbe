"""Learn from observed runs (`learnt`), fit the constants of an engine (`fit`), and fit the priors to published
results."""
