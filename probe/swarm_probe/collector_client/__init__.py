"""Keep the one connection to the collector: URL, certificate, session, and the reasons for its failures."""
