"""Predict what a swarm gives to many users at once: requests that arrive at random, batched continuously.

`traffic` describes the requests, `route` what a placement offers them, `serve` answers, and `split` chooses replicas.
Not decided here: what one stream takes (`forecast`) and where its layers go (`search`).
"""
