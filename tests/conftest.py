"""Every test runs on one thread, so that its time and its rounding are the same wherever it runs."""

import torch

torch.set_num_threads(1)
