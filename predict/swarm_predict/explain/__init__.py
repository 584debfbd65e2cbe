"""Explain the speed of a run: its terms compared with the usual ones of such machines, and how runs drift from
predictions.

usual         what machines of the same kinds take, by published results
terms         one token's time as terms, each with its draws
evidence      what was measured about a term, in sentences
published     the published setup nearest to a placement
measure_next  the figures whose measurement would narrow the interval most
explanation   expected, got, and the terms in the order of what they explain
disagreement  runs that differ from their predictions for longer than noise, and which term that looks like
"""
