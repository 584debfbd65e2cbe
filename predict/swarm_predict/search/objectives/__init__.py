"""Answer one question for each objective: the least latency, or the least time between two steps."""
