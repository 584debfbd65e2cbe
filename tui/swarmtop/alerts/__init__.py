"""Evaluate rules and notify: a rule broken for long enough fires, one that holds for long enough clears.

state      rules and the figures of each moment → what fires and what clears; pure, time is passed in
sinks      where a change is sent: a line, a webhook, a command of one's own
"""
