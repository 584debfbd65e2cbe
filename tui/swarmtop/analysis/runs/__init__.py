"""Summarise runs: the placement that is reported as running, runs of watched engines, and runs to explain. Why a run
differs from its prediction is computed in `swarm_predict.explain`."""
