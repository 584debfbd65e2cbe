"""Handle connections until they become sessions: TLS, WebSocket framing, connection limits, STUN.

Decides who may hold a socket, not what may be sent on it.
"""
