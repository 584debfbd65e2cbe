"""Run a reference engine for comparison with predictions: a torch decoder over the lab's hosts, as a chain or a star.

`stage` computes (split output equals unsplit output), `framing` frames messages on TCP, `worker` serves one stage,
`driver` is the client that requests tokens and records when each came. All hosts share one clock, so that every stage
and every hop is timed exactly.
"""
