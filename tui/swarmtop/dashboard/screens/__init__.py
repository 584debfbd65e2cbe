"""Define the screens, one in each file: keys become changes of the View, and lines come from `lines/`."""
