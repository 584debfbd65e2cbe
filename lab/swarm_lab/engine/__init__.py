"""Run a real engine to predict: a torch decoder spread over the lab's hosts, as a chain or a star.

`stage` computes (split output equals unsplit output), `framing` frames messages on TCP, `worker` serves one stage,
`driver` is the client that requests tokens and records when each came. The clocks of all hosts are one clock here, so
that every stage and every hop is timed exactly.
"""
