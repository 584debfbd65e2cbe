"""Draw the overview: how its parts share the height, the headline with its chart, the ranking."""
