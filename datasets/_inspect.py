"""A closer look at the scenes of a dataset: statistics, and the defects that public sets are known to have.

Everything is streamed in batches, so memory does not grow with the number of samples beyond a few bytes for
each. Nothing is repaired.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from pansharp_bench.errors import DataError
from pansharp_bench.imaging import interp23, mtf_filter
from pansharp_bench.imaging.registration import correlate_phases
from pansharp_bench.scene import Dataset, Scene, Sensor, Split, SplitName

_BATCH = 8 << 20  # bytes of float32 read at a time
_RUNS = 4  # places in a large split that a glance looks at
_GAIN = 2.64  # what the 23-tap expansion can make of an error of 1 in every pixel of ms
_FAINT = 1 / 16  # of the peak: not even a dark scene stays below that
_BLANK = 0.01  # of a sample: more is no shadow
_WINDOW = 8  # MS pixels across of the windows by which overlapping ground is found


def describe(split: Split) -> dict:
    """Statistics of a split, JSON-able, from one pass over the file.

    ``arrays``: shape, stored type, least and largest DN of each key. ``band_mean``, ``band_std``,
    ``pan_band_correlation`` and ``band_correlation`` (C x C) are over all pixels of ``ms`` and of PAN averaged
    to its grid; ``pan_mean`` and ``pan_std`` over all pixels of PAN.
    """
    extent = {k: [torch.inf, -torch.inf] for k in split.keys}
    rows = 1 + split.sensor.channels
    total, square = torch.zeros(rows).double(), torch.zeros(rows, rows).double()
    count, pan_square = 0, 0.0
    for _, scene in _batches(split, "info"):
        for key, (low, high) in extent.items():
            x = getattr(scene, key)
            extent[key] = [min(low, x.min().item()), max(high, x.max().item())]
        assert scene.ms is not None
        x = _on_ms_grid(scene.pan, scene.ms, split.sensor).double().transpose(0, 1).flatten(1)
        count += x.shape[1]
        total += x.sum(1)
        square += x @ x.T
        pan_square += scene.pan.double().square().mean().item() * x.shape[1]
    mean = total / count
    covariance = square / count - torch.outer(mean, mean)
    std = covariance.diagonal().clamp_min(0).sqrt()
    correlation = covariance / torch.outer(std, std)  # nan where an array is constant
    stored = getattr(split, "arrays", {})
    return {
        "samples": len(split),
        "arrays": {
            k: {
                "shape": [len(split), *split.read(k, slice(0, 0)).shape[1:]],
                "dtype": stored[k].dtype if k in stored else "float32",
                "min": extent[k][0],
                "max": extent[k][1],
            }
            for k in split.keys
        },
        "band_mean": mean[1:].tolist(),
        "band_std": std[1:].tolist(),
        "pan_mean": mean[0].item(),
        "pan_std": max(pan_square / count - mean[0].item() ** 2, 0) ** 0.5,
        "pan_band_correlation": _json(correlation[0, 1:]),
        "band_correlation": _json(correlation[1:, 1:]),
    }


def inspect(
    dataset: Dataset,
    originals: Container[str] = (),
    splits: Sequence[SplitName] | None = None,
    limit: int | None = None,
) -> Iterator[tuple[str, str]]:
    """Findings (level, text) about these splits of a dataset, all by default.

    A defect is an error, but only a warning in the ``originals``: those are as everybody has them. ``limit`` is how
    many bytes of float32 to read of a split; of larger ones evenly spread samples are looked at.
    """
    looks = []
    names = dataset.available() if splits is None else splits
    ground = not {"train", "valid"}.isdisjoint(names)
    for name in names:
        try:
            look = _look(dataset.split(name), limit, ground)
        except DataError as error:
            yield "error", str(error)
            continue
        fault = "warning" if name in originals else "error"
        for level, text in _judge(look):
            yield (fault if level == "fault" else level), f"{look.title}: {text}"
        looks.append(look)
    yield from _compare(looks, originals)


@dataclass
class _Look:
    """What one pass over a split gathers; tensors have one entry per sample that could be read."""

    split: Split
    seen: int = 0
    faults: list[str] = field(default_factory=list)
    extent: dict[str, tuple[float, float]] = field(default_factory=dict)
    flat: int = 0
    blank: Tensor = field(
        default_factory=lambda: torch.empty(0)
    )  # the share of MS pixels that are 0, PAN's too
    content: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    phase: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    shift: Tensor = field(default_factory=lambda: torch.empty(0, 2))
    expansion: float = 0.0  # largest difference of lms from interp23(ms), DN, beyond rounding
    ground: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    owner: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    @property
    def title(self) -> str:
        """The split's name, and how much of it was looked at where that is not all."""
        n, name = len(self.split), self.split.name
        return name if self.seen == n or self.faults else f"{name} ({self.seen} of {n} samples looked at)"


def _look(split: Split, limit: int | None, ground: bool) -> _Look:
    """One pass over a split, or over so many bytes of it; ``ground``: also what overlaps are found by."""
    look = _Look(split)
    parts: dict[str, list[Tensor]] = {
        key: [] for key in ("blank", "content", "phase", "shift", "ground", "owner")
    }
    for start, scene in _batches(split, "check", look.faults, limit):
        look.seen += len(scene)
        for key in split.keys:
            x, (low, high) = getattr(scene, key), look.extent.get(key, (torch.inf, -torch.inf))
            look.extent[key] = min(low, x.min().item()), max(high, x.max().item())
        pan, ms, lms, gt = scene.pan, scene.ms, scene.lms, scene.gt
        assert ms is not None and lms is not None
        flat = pan.amax((1, 2, 3)) == pan.amin((1, 2, 3))
        look.flat += int(flat.sum())
        parts["blank"].append((_on_ms_grid(pan.abs(), ms, split.sensor) == 0).all(1).double().mean((1, 2)))
        parts["content"].append(_content(pan, ms)[~flat])
        if split.name != "full" and gt is not None:
            parts["phase"].append(_phase(gt, ms, split.sensor))
        ratio = split.sensor.ratio
        found = correlate_phases(pan, ms, ratio, split.sensor.placed(ratio // 2))
        parts["shift"].append(found.offset[found.certain])
        look.expansion = max(look.expansion, _expansion(ms, lms, split.sensor))
        # the sensor's own MS pixels: the reference where resolution was reduced, ms where it was not
        pixels = ms if split.name == "full" else gt
        if pixels is not None and ground:
            stride = 1 if split.name in ("reduced", "full") else _WINDOW
            hashes, owner = _windows(pixels, stride)
            parts["ground"].append(hashes)
            parts["owner"].append(owner + start)
    for key, tensors in parts.items():
        if tensors:
            setattr(look, key, torch.cat(tensors))
    return look


def _batches(
    split: Split, verb: str, faults: list[str] | None = None, limit: int | None = None
) -> Iterator[tuple[int, Scene]]:
    """(index of the first sample, scenes), with a progress bar on a terminal. A batch that cannot be read
    goes to ``faults``, where given. Of a split of more bytes than ``limit`` a few evenly spread runs of samples."""
    from tqdm import tqdm

    pixels = split.read("pan", slice(0, 0)).shape[1:].numel()
    bytes_each = pixels * 4 * (1 + 2 * split.sensor.channels)
    n, size = len(split), max(1, _BATCH // bytes_each)
    starts: Iterable[int] = range(0, n, size)
    if limit is not None and (few := max(1, limit // bytes_each)) < n:
        size = min(size, max(1, few // _RUNS))
        starts = torch.linspace(0, n - size, few // size).round().int().tolist()
    with tqdm(total=n, desc=f"{verb} {split.name}", disable=not sys.stderr.isatty(), leave=False) as bar:
        for start in starts:
            try:
                scene = split[start : start + size]
            except DataError as error:
                if faults is None:
                    raise
                faults.append(str(error))
                continue
            yield start, scene
            bar.update(len(scene))


def _on_ms_grid(pan: Tensor, ms: Tensor, sensor: Sensor) -> Tensor:
    """(N, 1 + C, h, w): PAN averaged over each MS pixel, then the bands."""
    return torch.cat([F.avg_pool2d(pan, sensor.ratio), ms], 1)


def _json(x: Tensor) -> list:
    if x.ndim > 1:
        return [_json(row) for row in x]
    return [None if v != v else v for v in x.tolist()]


def _judge(look: _Look) -> Iterator[tuple[str, str]]:
    """Findings about one split; level ``fault`` is an error unless the file is an original."""
    sensor = look.split.sensor
    for text in look.faults:
        yield "error", text
    stored = getattr(look.split, "arrays", {})
    if pictures := [key for key, array in stored.items() if array.dtype == "uint8" and sensor.peak > 255]:
        yield (
            "fault",
            (
                f"{', '.join(pictures)} stored in 8 bits, and the sensor's DN reach {sensor.peak:g}: these are "
                "pictures that were stretched; digital numbers are expected"
            ),
        )
    usual = []
    for key, (low, high) in look.extent.items():
        said = f"{key} spans {low:.6g} to {high:.6g} DN, the sensor 0 to {sensor.peak:g}"
        if sensor.looks_normalised(low, high):
            yield "fault", f"{said}: the values look normalised; digital numbers are expected"
        elif max(-low, high) > 1.5 * sensor.peak:
            yield "warning", f"{said}: far beyond the sensor's range"
        elif key == "gt" and (low < 0 or high > sensor.peak):
            yield "warning", f"{said}: a reference holds the sensor's own values"
        else:  # filters overshoot, so a little outside the range is as it should be
            usual.append(f"{key} {low:.6g} to {high:.6g}")
    high = max((look.extent[k][1] for k in ("pan", "ms") if k in look.extent), default=sensor.peak)
    if 1 < high < _FAINT * sensor.peak:
        yield (
            "warning",
            (
                f"no value is beyond {high:.6g}, {high / sensor.peak:.2g} of the sensor's peak {sensor.peak:g}: "
                "is it another unit (radiance, reflectance), or another sensor?"
            ),
        )
    if usual:
        yield "ok", f"values in DN (the sensor's are 0 to {sensor.peak:g}): {', '.join(usual)}"
    if look.flat:
        yield "warning", f"PAN is constant in {look.flat} of {look.seen} samples"
    if blank := int((look.blank > _BLANK).sum()):
        yield (
            "warning",
            (
                f"{blank} of {look.seen} samples are 0 in PAN and MS over up to {look.blank.max().item():.0%} of "
                "their ground: fill counts in every score; declared as nodata in a GeoTIFF "
                "(`rio edit-info --nodata 0 FILE`) it is left out"
            ),
        )
    if len(look.phase):
        yield _judge_phase(look.phase, sensor)
    yield _judge_shift(look.shift, look.seen, look.split)
    if look.expansion:
        yield (
            "warning",
            (
                f"lms differs from the 23-tap expansion of ms by up to {look.expansion:.3g} DN, borders aside: "
                "another interpolation, another alignment, or clipped. Methods see it as it is; indices at full "
                "resolution expand ms themselves"
            ),
        )
    if repeats := len(look.content) - len(look.content.unique()):
        yield "warning", f"{repeats} of {look.seen} samples repeat an earlier one exactly"


def _judge_phase(phase: Tensor, sensor: Sensor) -> tuple[str, str]:
    r, right = sensor.ratio, _right_phases(sensor)
    counts = torch.bincount(phase, minlength=r * r)
    wrong = len(phase) - int(counts[right].sum())
    where = "({:g},{:g})".format(*sensor.placed(r // 2))
    if not wrong:
        return "ok", f"ms is the MTF-filtered gt at decimation phase {where} in all {len(phase)} samples"
    counts[right] = 0
    most = [i for i in counts.argsort(descending=True, stable=True).tolist()[:3] if counts[i]]
    listed = ", ".join(f"({i // r},{i % r}) in {int(counts[i])}" for i in most)
    level = "fault" if wrong > 0.01 * len(phase) else "warning"
    return level, (
        f"decimation phase: {wrong} of {len(phase)} samples ({wrong / len(phase):.1%}) fit their gt better at "
        f"another phase than {where}: {listed}"
    )


def _right_phases(sensor: Sensor) -> list[int]:
    """The whole phases, row·ratio + column, beside the sensor's own: one, or what it lies between."""
    r = sensor.ratio
    rows, cols = (sorted({math.floor(p), math.ceil(p)}) for p in sensor.placed(r // 2))
    return [row * r + col for row in rows for col in cols if 0 <= row < r and 0 <= col < r]


def _judge_shift(shift: Tensor, seen: int, split: Split) -> tuple[str, str]:
    if not len(shift):
        return "note", (
            f"registration of PAN and MS cannot be judged: none of {seen} samples has enough detail that both show"
        )
    # at full resolution the toolbox's place is half a PAN pixel off a common corner, both ways
    limit = 1.5 if split.name == "full" and split.sensor.phase is None else 0.75
    size = shift.norm(dim=1)
    far = shift[size >= limit]
    told = f"the {len(shift)} samples with enough structure to tell"
    if len(far) < 0.1 * len(shift):
        return "ok", f"PAN and MS are registered: {size.median():.2f} PAN pixels apart (median of {told})"
    dy, dx = far.median(0).values.tolist()
    return "warning", (
        f"PAN and MS seem misregistered in {len(far)} of {told}: there the MS lies {dy:+.1f} rows and "
        f"{dx:+.1f} columns off the PAN (median, in this split's PAN pixels)"
    )


def _compare(looks: list[_Look], originals: Container[str]) -> Iterator[tuple[str, str]]:
    """The same content, or the same ground, in two splits."""
    clean = True
    for i, a in enumerate(looks):
        for b in looks[i + 1 :]:
            names = f"{a.split.name} and {b.split.name}"
            test = b.split.name in ("reduced", "full")
            fault = "warning" if a.split.name in originals and b.split.name in originals else "error"
            if same := int(torch.isin(a.content, b.content).sum()):
                clean = False
                yield fault if test else "warning", f"{names}: {same} samples are the same in both"
            if a.split.name not in ("train", "valid") or not test:
                continue
            seen = torch.isin(a.ground, b.ground)
            if shared := len(a.owner[seen].unique()):
                clean = False
                scenes = len(b.owner[torch.isin(b.ground, a.ground)].unique())
                yield (
                    fault,
                    (
                        f"{names}: {shared} of {a.seen} {a.split.name} samples show ground of "
                        f"{scenes} of the {b.seen} test images"
                    ),
                )
    if clean and len(looks) > 1:
        yield "ok", f"no sample is shared between {', '.join(look.split.name for look in looks)}"


def _phase(gt: Tensor, ms: Tensor, sensor: Sensor) -> Tensor:
    """(N,) the decimation phase, row·ratio + column, at which the MTF-filtered gt fits ms best. Borders, where
    a patch lacks its surroundings, do not count."""
    r = sensor.ratio
    low = mtf_filter(gt, sensor)
    grid = low.unflatten(-2, (-1, r)).unflatten(-1, (-1, r))  # N, C, h, row, w, column
    edge = min(3, (min(ms.shape[-2:]) - 1) // 2)
    inner = slice(edge, -edge or None)
    error = (grid - ms[:, :, :, None, :, None]).square()[:, :, inner, :, inner]
    error = error.double().mean((1, 2, 4)).flatten(1)
    right = _right_phases(sensor)
    error[:, right] = 0.999 * error[:, right] - 1e-4  # where all fit alike (no structure), nothing is wrong
    return error.argmin(1)


def _expansion(ms: Tensor, lms: Tensor, sensor: Sensor) -> float:
    """Largest difference of lms from interp23(ms) in the middle, which a patch's border hardly moves; 0 where
    rounding explains it, to integers if lms, or lms and ms, hold nothing else."""
    edge = 24
    if min(lms.shape[-2:]) < 2 * edge + 16:
        return 0.0
    inner = slice(edge, -edge)
    difference = (interp23(ms, sensor) - lms)[..., inner, inner].abs().max().item()
    rounding = 0.0
    if torch.equal(lms, lms.round()):
        rounding = 0.5 + (0.5 * _GAIN if torch.equal(ms, ms.round()) else 0.0)
    return difference if difference > rounding + 1e-5 * sensor.peak else 0.0


def _mixed(x: Tensor) -> Tensor:
    """The bits of float32 values, stirred: int64."""
    z = (x + 0.0).contiguous().view(torch.int32).long() * 0x2545F4914F6CDD1D
    return (z ^ (z >> 29)) * -0x61C8864680B583EB


def _weights(n: int, seed: int) -> Tensor:
    return torch.randint(-(2**63), 2**63 - 1, (n,), generator=torch.Generator().manual_seed(seed)) | 1


def _content(pan: Tensor, ms: Tensor) -> Tensor:
    """(N,) int64 hash of each sample's PAN and MS."""
    z = torch.cat([_mixed(pan).flatten(1), _mixed(ms).flatten(1)], 1)
    z = (z * _weights(z.shape[1], 0)).sum(1)
    return z ^ (z >> 32)


def _windows(x: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Hashes of the textured windows of N,C,H,W at every ``stride`` pixels, and which sample each is from."""
    n, _, h, w = x.shape
    if min(h, w) < _WINDOW:
        return torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    z = _mixed(x)
    z = (z * _weights(x.shape[1], 1)[:, None, None]).sum(1)
    z = (z ^ (z >> 31)) * 0x2545F4914F6CDD1D
    rows, columns = _weights(_WINDOW, 2).tolist(), _weights(_WINDOW, 3).tolist()
    z = sum(z[:, i : h - _WINDOW + 1 + i] * v for i, v in enumerate(rows))
    z = sum(z[:, :, i : w - _WINDOW + 1 + i] * v for i, v in enumerate(columns))
    band = x.mean(1, keepdim=True)
    spread = F.max_pool2d(band, _WINDOW, stride) + F.max_pool2d(-band, _WINDOW, stride)  # largest minus least
    z, textured = z[:, ::stride, ::stride], spread[:, 0] >= 4
    owner = torch.arange(n)[:, None, None].expand_as(z)
    return z[textured], owner[textured]
