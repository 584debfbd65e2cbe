"""Detect changes in what members measure: one event when a machine or a link gets worse, one when that ends.

figures          which figures are tested, with the minimum effect and noise floor of each
series           each series: its baseline over the last hour, and the evidence that its level has changed
subjects         attribute series with evidence to a node or to one link
detector         samples in, changes out
monitor          run the detector in the collector, add the effect on the plan, report
plan_rate        tokens a second of the placement that runs, or else of the one that was best before
recorded_changes the same events for a recording that has none
"""
