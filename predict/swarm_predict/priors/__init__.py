"""Give distributions for unmeasured figures of a machine, from published results of similar machines.

published.toml  speeds that others measured and published, with their sources
table           reads it
factors         names what a speed depends on: class of device, weights, routed experts, engine
evidence        a published speed as a swarm, a placement and the parts of its time
fit             partially pooled model: classes with few rows borrow from all (`python -m bench priors --fit`)
fitted.json     its coefficients and their covariance
posterior       medians and correlated draws, for prediction and for the planner
particular      what one machine, one model and one swarm have beyond their kind
conditioning    the priors after observed runs
nodes           the same for the machines of one swarm: what is measured replaces its prior
"""
