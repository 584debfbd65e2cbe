"""Time a device in the child process: the points to time, for how long, and when a median is precise enough. The layers
themselves are in `compute.layers`; limits on the child are enforced by `supervisor` and `child`."""
