"""The three places numbers come from: a running collector (live), a database (replay), a file written by hand."""
