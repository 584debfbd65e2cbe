"""Import numpy at its first use, for modules that are loaded before the first paint of the dashboard.

Importing numpy takes as long as a fifth of the start of a bare Textual app. Names and machines of members are shown
without it; the first figure that is computed imports it. Modules that the first paint does not load import numpy as
usual.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["np"]

if TYPE_CHECKING:
    import numpy as np
else:

    class _Numpy:
        def __getattr__(self, name: str) -> Any:
            import numpy

            found = getattr(numpy, name)
            setattr(self, name, found)  # the next time it is an attribute like those of a module
            return found

    np = _Numpy()
