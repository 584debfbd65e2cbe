"""Compute what each node costs a placement or the swarm, and what its loss would cost. Changes to the plan are in the
parent package."""
