"""Give hivemind 1.1.9 the names that torch has moved: this becomes sitecustomize.py of Petals' environment."""

import sys

if any("petals" in word for word in sys.orig_argv):
    import torch.amp.grad_scaler as now
    import torch.cuda.amp.grad_scaler as before

    before._refresh_per_optimizer_state = now._refresh_per_optimizer_state
    before.OptState = now.OptState
