"""Connections before they are sessions: TLS, WebSocket framing, connection limits, STUN.

Decides who may hold a socket, not what may be said on it.
"""
