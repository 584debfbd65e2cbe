"""What travels over the WebSockets: probe, viewer and operator messages, and the samples in them."""
