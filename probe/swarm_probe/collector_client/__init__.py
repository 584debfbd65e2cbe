"""The one connection to the collector: URL, certificate, session, and why there is none."""
