"""What the screens are about: the view, its recent history, the mark, the what-if. No Textual."""
