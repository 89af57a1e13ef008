"""Losses that need the input gradient: noise-to-signal ratios and norms of the Jacobian; and those they go with.

Ma and Liang 2020 (arXiv 2005.09134). z (n, classes) are logits, z_y (n,) those of the true class, w_y (n, d) the
gradient of z_y to the sample, d the numbers of one sample. All give a scalar and can be differentiated.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot


def own(z: Tensor, y: Tensor) -> Tensor:
    """z_y: the logit of the true class, (n,)."""
    return z.gather(1, y[:, None]).squeeze(1)


def right(z: Tensor, y: Tensor) -> Tensor:
    """Which rows are classified correctly, (n,) bool."""
    return z.detach().argmax(1) == y


def input_gradient(z_y: Tensor, x: Tensor) -> Tensor:
    """w_y (n, d), for a loss on it: samples do not mix, so that one pass serves all rows."""
    (gradient,) = torch.autograd.grad(z_y.sum(), x, create_graph=True)
    return gradient.flatten(1)


def squared_error(z: Tensor, y: Tensor) -> Tensor:
    """Mean over samples of ||z - onehot(y)||^2."""
    return (z - one_hot(y, z.shape[1])).square().sum(1).mean()


def active_margin(z: Tensor, y: Tensor) -> Tensor:
    """Mean of 1 - z_y + z_j over the pairs (sample, j != y) where it is above 0, of correctly classified samples.

    As coded: a mean over active pairs, which does not fade as fewer of them are left; 0 where there is none.
    """
    lack = 1 - own(z, y)[:, None] + z
    active = (lack > 0) & right(z, y)[:, None] & (one_hot(y, z.shape[1]) == 0)
    return (lack * active).sum() / active.sum().clamp_min(1)


def summed_margin(z: Tensor, y: Tensor) -> Tensor:
    """Mean over correctly classified samples of sum_j max(0, 1 - z_y + z_j), as written: j = y gives 1."""
    lack = (1 - own(z, y)[:, None] + z).clamp_min(0).sum(1)
    return mean_over(lack, right(z, y))


def squared_ratio(w: Tensor, x: Tensor, rows: Tensor) -> Tensor:
    """R1: mean over `rows` of ||w_y - x / (x.x + 1e-8)||^2, w and x (n, d)."""
    x = x.detach()
    best = x / (x.square().sum(1, keepdim=True) + 1e-8)
    return mean_over((w - best).square().sum(1), rows)


def log_ratio(w: Tensor, z_y: Tensor, rows: Tensor, eps: float = 1.0, floor: float = 0.01) -> Tensor:
    """R2: mean over `rows` of log(1 + eps ||w_y||_1 / (|z_y| + floor)), w (n, d), z_y (n,); the text has floor 0."""
    return mean_over(torch.log1p(eps * torch.linalg.vector_norm(w, 1, dim=1) / (z_y.abs() + floor)), rows)


def jacobian_l1(z: Tensor, x: Tensor) -> Tensor:
    """Mean over samples and their d numbers of sum_c |dz_c / dx_i|: the entries' L1 norm, as coded."""
    return torch.stack([torch.linalg.vector_norm(rows, 1) for rows in _jacobian(z, x)]).sum() / x.numel()


def jacobian_frobenius(z: Tensor, x: Tensor) -> Tensor:
    """Root of the mean over samples of ||dz/dx||_F^2; Jakubovitz and Giryes 2018, over the root of the batch size."""
    sizes = torch.stack([torch.linalg.vector_norm(rows) for rows in _jacobian(z, x)])
    return torch.linalg.vector_norm(sizes) / len(x) ** 0.5


def mean_over(values: Tensor, rows: Tensor) -> Tensor:
    """Mean of `values` (n,) over the rows that are True; 0 where none is."""
    return (values * rows).sum() / rows.sum().clamp_min(1)


def _jacobian(z: Tensor, x: Tensor) -> list[Tensor]:
    """dz_c/dx of every class c, each (n, d): one forward, a backward pass per class."""
    return [input_gradient(of_class, x) for of_class in z.unbind(1)]
