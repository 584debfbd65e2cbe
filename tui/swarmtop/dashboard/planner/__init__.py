"""Plan behind the dashboard: `thread` asks one question at a time, `planner` has those about large swarms answered
in a worker process, `jobs` plans past moments and advice."""
