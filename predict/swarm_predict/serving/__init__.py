"""Predict what a swarm gives many users at once: requests that arrive at random, batched continuously.

`traffic` describes the requests, `routes` the capacity of a placement, `queueing` how requests delay each other, and
`shared_machines` several placements at once. `serve` gives the answer, `replica_planning` chooses the placements. The
time of a single stream is computed in `forecast`, the split of layers in `search`.
"""
