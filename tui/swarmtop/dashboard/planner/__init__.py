"""Plan behind the dashboard: `thread` asks one question at a time, `planner` has those about large swarms answered
in a worker process (`process`, `worker`, `messages`), `jobs` plans past moments and advice."""
