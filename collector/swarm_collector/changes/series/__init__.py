"""Hold the tested series: a link's in columns while nothing happens on it, as objects while something does.

level          one series: its baseline over the last hour, and the evidence that its level has changed
loss_level     the same for packet loss, which is counted
level_columns  the state of many quiet levels and losses, one row each
link_rows      number the links, and say who measures whom
link_series    the three series of every link
series_table   all series: samples in, those with evidence out
"""
