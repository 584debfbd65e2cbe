"""Predict what a swarm gives to many users at once: requests that arrive at random, batched continuously.

`traffic` describes the requests, `routes` what a placement offers them, `load` one placement under arrivals, `together`
and `shared` several; `serve` answers, and `split` plans. Not decided here: what one stream takes (`forecast`) and where
its layers go (`search`).
"""
