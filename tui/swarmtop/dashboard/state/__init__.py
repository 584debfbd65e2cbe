"""Hold the state that the screens show: the view, its recent history, the mark, the what-if. No Textual."""
