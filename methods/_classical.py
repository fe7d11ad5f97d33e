"""Pieces the classical methods and the closed-form rows share. Images are (N, C, H, W); statistics are per
image and band, with N - 1, and broadcast against images."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

from pansharp_bench.imaging import interp23, mtf_reduce, statistics
from pansharp_bench.imaging.statistics import Moments, moments, percentile, products
from pansharp_bench.scene import Sensor, as_images, as_sensor

EPS = 2.0**-52  # MATLAB's eps, which the toolbox adds to denominators
FLAT = 1e-6
"""A spread below this share of an image's values is what filtering and rounding leave of a constant. (The 23 taps
sum to 1 - 4e-10, float32 keeps 6e-8; one pixel of a million that is one DN off in 1000 makes 1e-6.)"""


def fusion(rule: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A fusion rule ``(pan, ms, lms, sensor)`` as a method: it computes in float64, and gives the float type that
    holds ``ms``. ``lms`` (``ms`` expanded to the PAN grid) may be left out."""

    @wraps(rule)
    def method(pan: Tensor, ms: Tensor, lms: Tensor | None = None, *, sensor: str | Sensor) -> Tensor:
        sensor, pan, ms = as_sensor(sensor), as_images(pan, "pan"), as_images(ms, "ms")
        lms = interp23(ms.double(), sensor) if lms is None else as_images(lms, "lms").double()
        return rule(pan.double(), ms.double(), lms, sensor).to(ms.dtype)

    del method.__wrapped__  # its own signature is the one to be called by
    return method


def mean(x: Tensor) -> Tensor:
    return moments(x).mean[..., None, None]


def _flat(pixels: Tensor, mean: Tensor, square: Tensor) -> Tensor:
    """Whether the deviations, whose squares' sum is given, are no more than rounding."""
    return square.sqrt() <= FLAT * (square + pixels * mean.square()).sqrt()


def cov(x: Tensor, y: Tensor) -> Tensor:
    m = moments(x, y)
    flat = _flat(m.pixels, m.mean, m.square) | _flat(m.pixels, m.mean_y, m.square_y)
    return (m.product / (m.pixels - 1).clamp(min=1)).masked_fill(flat, 0)[..., None, None]


def var(x: Tensor) -> Tensor:
    return _var(moments(x))


def _var(m: Moments) -> Tensor:
    spread = m.square / (m.pixels - 1).clamp(min=1)
    return spread.masked_fill(_flat(m.pixels, m.mean, m.square), 0)[..., None, None]


def std(x: Tensor) -> Tensor:
    return var(x).sqrt()


def corr(x: Tensor, y: Tensor) -> Tensor:
    """The correlation coefficient, 0 where either image is flat."""
    return divide(cov(x, y), std(x) * std(y))


def divide(x: Tensor, y: Tensor) -> Tensor:
    """x / y, and 0 where y is 0: a flat image has no detail to inject."""
    return torch.where(y == 0, 0, x / torch.where(y == 0, 1, y))


def gain(x: Tensor, y: Tensor) -> Tensor:
    """cov(x, y) / var(y), by which y explains x; 0 where either is flat."""
    m = moments(x, y)
    flat = _flat(m.pixels, m.mean, m.square) | _flat(m.pixels, m.mean_y, m.square_y)
    return divide(m.product, m.square_y).masked_fill(flat, 0)[..., None, None]


def deviations(x: Tensor) -> tuple[Tensor, Tensor]:
    """The means of the bands (N, C), and the sums of products of their deviations from these (N, C, C), 0 of a flat
    band: the moments of any combination of bands, without computing it."""
    m = products(x)
    flat = _flat(m.pixels, m.mean, m.products.diagonal(dim1=1, dim2=2))
    return m.mean, m.products.masked_fill(flat[:, None] | flat[..., None], 0)


def centred_regression(regressors: Tensor, targets: Tensor) -> Tensor:
    """:func:`regression` of what is freed of its mean; where that leaves nothing but rounding it is 0."""
    n = regressors.shape[1]
    r = statistics.triangle(torch.cat([torch.ones_like(targets[:, :1]), regressors, targets], 1))
    root, mean, r = r[:, 0, :1], r[:, 0, 1:], r[:, 1:, 1:]  # the first column took the means away
    flat = _flat(root.square(), mean / root, r.square().sum(1))
    r = r.masked_fill(flat[:, None], 0)
    return _solved(r[..., :n], r[..., n:])


def injected(lms: Tensor, gains: Tensor, detail: Tensor) -> Tensor:
    """M_b + g_b D_b; ``detail`` (N, C or 1, H, W)."""
    return torch.addcmul(lms, gains, detail)


def matched(pan: Tensor, target: Tensor, low: Tensor, centre: Tensor | None = None) -> Tensor:
    """PAN with the target's mean, and its standard deviation where PAN is as blurred as ``low``."""
    of, blurred = moments(target), moments(low)
    centre = pan if centre is None else centre
    around = blurred if centre is low else moments(centre)
    scale = divide(_var(of).sqrt(), _var(blurred).sqrt())
    return torch.addcmul(of.mean[..., None, None], pan - around.mean[..., None, None], scale)


def blurred_pan(pan: Tensor, sensor: Sensor) -> Tensor:
    """PAN as sharp as each expanded MS band: band MTF, decimation, 23-tap expansion. (N, 1 or C, H, W) ->
    (N, C, H, W)."""
    return interp23(mtf_reduce(pan, sensor), sensor)


_HAZE = (0.95, 0.45, 0.40, 0.05)  # of the first percentile of blue, green, red, NIR


def haze(lms: Tensor) -> Tensor:
    """The toolbox's path radiance L_b, (N, C, 1, 1): fixed fractions of the first percentile for four bands (blue,
    green, red, NIR), the band's minimum otherwise."""
    if lms.shape[1] != len(_HAZE):
        return percentile(lms, 0)[..., None, None]
    return (lms.new_tensor(_HAZE) * percentile(lms, 1))[..., None, None]


def with_ones(x: Tensor) -> Tensor:
    """The bands and a constant one, the regressors of an affine model."""
    return torch.cat([x, torch.ones_like(x[:, :1])], 1)


def triangle(regressors: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares over all pixels, reduced to n rows by an orthogonal transform.

    For regressors (N, n, H, W) and targets (N, m, H, W): R (N, n, n) and q (N, n, m) such that the w that
    minimises |R w - q| is the one that minimises |regressors w - targets|, for any constraint on w.
    """
    n = regressors.shape[1]
    r = statistics.triangle(torch.cat([regressors, targets], 1))
    return r[:, :n, :n], r[:, :n, n:]


def combine(regressors: Tensor, weights: Tensor) -> Tensor:
    """Sum of (N, n, H, W) regressors with (N, n, m) weights: (N, m, H, W)."""
    return torch.einsum("bnhw,bnm->bmhw", regressors, weights)


def regression(regressors: Tensor, targets: Tensor) -> Tensor:
    """Least-squares weights (N, n, m), of least norm where they are not unique but for rounding."""
    return _solved(*triangle(regressors, targets))


def _solved(r: Tensor, q: Tensor) -> Tensor:
    """The w of least norm that minimises |r w - q|, but for rounding."""
    # the 23 taps ripple by 4e-10: not another direction; NaN in q stand for what is not known of a scene yet
    return torch.linalg.pinv(r.nan_to_num(), rtol=1e-8) @ q


def nonnegative_regression(regressors: Tensor, targets: Tensor) -> Tensor:
    """Least-squares weights (N, n, m) under w >= 0, exactly.

    The optimum is the plain least-squares solution on its own support, so all 2^n supports are solved at once
    and the best of those without a negative weight is taken; the empty one always qualifies.
    """
    r, q = triangle(regressors, targets)
    n = r.shape[-1]
    support = (torch.arange(2**n, device=r.device)[:, None] >> torch.arange(n, device=r.device)) & 1
    support = support.to(r.dtype)
    # columns outside the support are replaced by equations w_j = 0, so that every system has full rank
    system = torch.cat(
        [r[:, None] * support[:, None], torch.diag_embed(1 - support).expand(len(r), -1, n, n)], 2
    )
    basis, upper = torch.linalg.qr(system)
    right = basis[:, :, :n].mT @ q[:, None]
    weights = torch.linalg.solve_triangular(upper, right, upper=True) * support[..., None]
    error = (r[:, None] @ weights - q[:, None]).square().sum(2)
    allowed = (weights >= 0).all(2) & error.isfinite()  # a support of dependent columns may give inf or NaN
    best = torch.where(allowed, error, torch.inf).argmin(1)
    return weights.gather(1, best[:, None, None].expand(-1, 1, n, -1))[:, 0]
