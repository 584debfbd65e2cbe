"""Predict what a swarm gives to many users at once: requests that arrive at random, batched continuously.

`traffic` describes the requests, `routes` what a placement offers them, `queueing` how they wait for each other,
`together` several placements; `serve` answers, and `split` plans. Not decided here: what one stream takes (`forecast`)
and where its layers go (`search`).
"""
