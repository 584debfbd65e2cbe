"""Build, start and drive each engine. Networks, runs and reports are in the parent package."""
