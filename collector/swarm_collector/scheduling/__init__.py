"""Schedule measurements: plans, transfer leases, and the survey of large swarms."""
