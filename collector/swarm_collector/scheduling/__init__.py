"""Who measures whom, what and when: plans, transfer leases, and the survey of large swarms."""
