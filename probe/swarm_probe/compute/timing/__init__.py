"""Time a device in the child process: what is timed, for how long, and when a median is known well enough. The layers
themselves are in `compute.layers`; limits on the child are enforced by `supervisor` and `child`."""
