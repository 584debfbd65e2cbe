"""Watch a running engine through its OpenAI-compatible endpoint, to compare measured with predicted.

    sse        bytes → server-sent events
    stream     events with their times → one `Observation`: first token, time per token, tokens a second
    pace       when to ask again, and when enough was spent
    client     the socket: one streamed request, its errors in one line each
    comparison the swarm that it runs on: the prediction of each run, and where runs are kept
    metrics    Prometheus metrics of llama-server and vLLM → the same `Observation`, of what others ask
    metrics_client  reads them
    petals     the same over the WebSocket of Petals' chat backend, which is not OpenAI's
    server     a small endpoint of a known speed, for trying all this without an engine

sse, stream and pace know no socket and no clock.
"""
