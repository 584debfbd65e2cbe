"""Give advice on a placement: impact of each node, suggestions, what-if, verdicts, stand-bys."""
