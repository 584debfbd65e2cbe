"""Run functions in a worker process: `process` starts and ends it, `program` is what runs there, `messages` is what
goes through the pipes between the two."""
