"""Assess a plan and its prediction: alternatives, confidence, and what more machines or speculation would give. Plans
are made in `swarm_predict.search`."""
