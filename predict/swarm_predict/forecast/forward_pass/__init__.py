"""Draw one forward pass through the stages: a prompt, a decode step or a verify window, in each pattern that an engine
uses. `assembly` makes a Prediction of the draws; `prediction` chooses the pattern."""
