"""Write the commands that start a placement on each engine."""
