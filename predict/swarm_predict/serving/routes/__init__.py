"""What a placement offers to many users: `build` makes a `Route` of a pipeline (`pipeline`) or of groups (`groups`)."""
