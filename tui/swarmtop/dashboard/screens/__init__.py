"""The screens, one a file; each turns keys into changes of the View and gets its lines from `lines/`."""
