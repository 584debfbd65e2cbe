"""Plans, transfer leases, and the survey of large swarms: who measures whom, what and when."""
