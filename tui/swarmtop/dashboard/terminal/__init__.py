"""Adapt Textual to the terminal: theme, count of bytes written, redraw rate, and the terminal's state restored at the
end. What is drawn is decided in `screens` and `lines`."""
