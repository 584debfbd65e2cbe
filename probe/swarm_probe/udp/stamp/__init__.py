"""Send, answer and evaluate STAMP packets (RFC 8762, RFC 8972). The packet format is in `swarm_protocol`, the socket in
`udp.udp_socket`, and addresses and NAT holes in the parent package."""
