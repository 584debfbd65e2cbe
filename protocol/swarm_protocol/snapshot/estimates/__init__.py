"""Estimate what no probe measured: one-way delays, a path's loss, and the round trips of unmeasured pairs. Pure."""
