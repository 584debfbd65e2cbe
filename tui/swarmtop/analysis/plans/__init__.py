"""Assess a plan and its prediction: alternatives, sureness, and what more machines or speculation would give. Plans
are made in `swarm_predict.search`."""
