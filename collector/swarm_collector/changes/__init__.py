"""Change detection on what members measure: one event when a machine or a link gets worse, one when that ends.

figures    which figures are tested, with each one's minimum effect and noise floor
level      one series: a baseline of its own last hour, and the evidence that its level has changed
loss       the same for packet loss, which is counted
subjects   series with evidence → whose change it is: a node's, or one link's
detector   samples in, changes out
monitor    runs the detector in the collector, adds the effect on the plan, tells
plan_rate  tokens a second of the placement that was best while all was quiet
recorded   the same events of a recording that has none
"""
