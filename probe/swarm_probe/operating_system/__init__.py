"""Read what the operating system reports: processor times, memory, quotas, pressure, interfaces, clocks."""
