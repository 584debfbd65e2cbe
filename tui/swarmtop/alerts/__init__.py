"""Rules that call somebody: breached for long enough they fire, held for long enough they clear.

state      rules and the figures of each moment → what fires and what clears; pure, time comes in
sinks      where a change goes: a line, a webhook, a command of one's own
"""
