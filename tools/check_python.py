"""Report in one line what a machine lacks before `make` builds on it. Runs on any Python 3, without packages."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - an older interpreter is just who must be able to read this
    have = ".".join(str(part) for part in sys.version_info[:3])
    sys.exit("swarmtop needs Python 3.11 or newer, this is {}; say make PYTHON=python3.12".format(have))  # noqa: UP032
try:
    import ensurepip
    import venv
except ImportError as error:
    sys.exit("Python has no {} module here; install it (Debian, Ubuntu: apt install python3-venv)".format(error.name))  # noqa: UP032
del ensurepip, venv
