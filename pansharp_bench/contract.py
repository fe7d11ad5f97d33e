"""What everything registered keeps to, asked one by one and answered in words.

A check raises :class:`Breach` where something is broken. The project's tests ask every method, metric and dataset
it ships; ``bench check`` asks those of a user's file, without pytest.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pansharp_bench.errors import BenchError, blaming
from pansharp_bench.imaging import interp23, wald_degrade
from pansharp_bench.method import (
    FunctionMethod,
    TrainedMethod,
    build,
    call_by_name,
    checked_image,
    is_trained,
    resolve_config,
)
from pansharp_bench.protocol import Protocol
from pansharp_bench.registry import (
    METRICS,
    TRACKS,
    Entry,
    MethodCard,
    MetricCard,
    load_plugin,
    registered_by,
    strange_protocol,
)
from pansharp_bench.scene import Dataset, Scene, Sensor, Split, data_root, opened
from pansharp_bench.training import PairedData, Trainer, UnpairedData

_VISIBLE = ("blue", "green", "red", "nir")
SENSORS_TRIED = tuple(
    Sensor(f"{len(bands)} bands", "", bands, 2047.0, (0.3,) * len(bands), 0.15, (2, 1, 0))
    for bands in (_VISIBLE, (*_VISIBLE, "coastal", "yellow", "red edge", "nir 2"))
)
_SMALL = {"steps": 2, "batch": 2, "validations": 1}  # the least that training a method can mean
_SIDE = 64
_BATCH_TOLERANCE = 2e-5  # of the peak: rounding of sums in another order

Ready = FunctionMethod | TrainedMethod
Around = Callable[[int | None], AbstractContextManager[Any]]


class Breach(BenchError):
    """A thing that is registered does not keep to what is asked of it; the message says how."""


@dataclass(frozen=True)
class Finding:
    """One thing that was asked of something registered; ``problem`` is empty where it is kept."""

    kind: str
    name: str
    asked: str
    problem: str = ""


# -- what is tried on ----------------------------------------------------------------------------------------


def scenes(sensor: Sensor, n: int = 2, height: int = 48, width: int = 64) -> Scene:
    """Smooth random scenes in DN with correlated bands, and a reference. Where the source is another camera, they
    have its image and latitudes, but no MS."""
    generator = torch.Generator().manual_seed(5)
    base = torch.rand(n, 1, height // 8, width // 8, generator=generator)
    tint = torch.rand(n, sensor.channels, height // 16, width // 16, generator=generator)

    def up(x: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(x, (height, width), mode="bicubic")

    least, dark = min(1.0, 1e-3 * sensor.peak), min(30.0, 0.03 * sensor.peak)
    gt = ((0.7 * up(base) + 0.3 * up(tint)) * 0.4 * sensor.peak + dark).clamp(least, sensor.peak)
    gt = gt + 0.01 * sensor.peak * torch.rand(gt.shape, generator=generator)
    grey = gt.mean(1, keepdim=True)
    if (bands := len(sensor.source)) > 1:
        tinted = grey * torch.linspace(0.8, 1.0, bands)[:, None, None]
        return Scene(sensor, pan=tinted, gt=gt, latitude=torch.linspace(-60, 60, n))
    ms = wald_degrade(gt, grey, sensor).ms
    return Scene(sensor, pan=grey, ms=ms, lms=interp23(ms), gt=gt)


class InMemory(Split):
    """A split of such scenes."""

    name = "train"
    keys = ("pan", "ms", "lms", "gt")

    def __init__(self, sensor: Sensor, n: int, side: int) -> None:
        self.sensor, self.all = sensor, scenes(sensor, n, side, side)

    def __len__(self) -> int:
        return len(self.all)

    def __getitem__(self, index: int | slice) -> Scene:
        return self.all[index]


@dataclass
class Watched:
    """What was seen of a training: ``steps``, how many the trainer took; ``strays``, the networks that were called
    with gradient past their prepared form (validation takes no gradient and may do so); ``differentiated``, whether
    steps called the ``backward`` they were given. Without the last two a training is right on one device, and on
    several silently lacks the neighbours' gradients."""

    steps: int = 0
    strays: list[str] = field(default_factory=list)
    differentiated: bool = False


@contextmanager
def watched(trainer: Trainer) -> Iterator[Watched]:
    """Within, what the steps of a training call is seen."""
    seen = Watched()
    hooks = []
    setup: Callable[..., nn.Module] = trainer.fabric.setup_module
    differentiate = trainer.fabric.backward

    def prepare(module: nn.Module) -> nn.Module:
        depth = [0]

        def enter(*_: object) -> None:
            depth[0] += 1

        def leave(*_: object) -> None:
            depth[0] -= 1

        def called(*_: object) -> None:
            if not depth[0] and torch.is_grad_enabled():
                seen.strays.append(type(module).__name__)

        prepared = setup(module)
        hooks.append(module.register_forward_pre_hook(called))
        hooks.append(prepared.register_forward_pre_hook(enter))
        hooks.append(prepared.register_forward_hook(leave))
        return prepared

    def backward(loss: Tensor) -> None:
        seen.differentiated = True
        differentiate(loss)

    trainer.fabric.setup_module = prepare  # type: ignore[method-assign, assignment]
    trainer.fabric.backward = backward  # type: ignore[method-assign, assignment]
    try:
        yield seen
    finally:
        seen.steps = trainer.summary.steps if trainer.summary else 0
        trainer.fabric.setup_module = setup  # type: ignore[method-assign, assignment]
        trainer.fabric.backward = differentiate  # type: ignore[method-assign]
        for hook in hooks:
            hook.remove()


def made_ready(entry: Entry[MethodCard], sensor: Sensor) -> tuple[Ready, Watched]:
    """A method to fuse with, trained for two steps where it learns, and what was seen of that."""
    options = {}
    if is_trained(entry):
        known = {f.name for f in fields(entry.obj.configure("quick"))}
        options = {k: v for k, v in _SMALL.items() if k in known}
    torch.manual_seed(0)
    method = build(entry, sensor, resolve_config(entry, "quick", options))
    if not isinstance(method, TrainedMethod):
        return method, Watched()
    trainer = Trainer(None, "cpu", seed=0, progress=False)
    side = max(_SIDE, -(-entry.card.smallest // 16) * 16)
    train, valid = InMemory(sensor, 8, side), InMemory(sensor, 4, side)
    load = UnpairedData.halves if method.card.training == "unpaired" else PairedData
    method.train()
    with watched(trainer) as seen:
        method.fit(load(sensor, train, valid, trainer.device), trainer)
    return method.eval(), seen


def fuse(method: Ready, scene: Scene, seed: int = 0) -> Tensor:
    """Fuse with what the method's card says it sees, and no more. Raises BenchError for what is no image of it."""
    with torch.inference_mode():
        fused = checked_image(method.fuse(scene.seen_by(method.card, seed)), scene, "fuse")
    if missing := int((~fused.isfinite()).sum()):
        raise Breach(f"fuse gave {missing} values that are NaN or infinite")
    return fused


# -- methods -------------------------------------------------------------------------------------------------


def check_output(method: Ready, scene: Scene) -> None:
    """Type and unit: DN, not [0, 1] nor [-1, 1], and nothing beyond what ringing explains."""
    fused = fuse(method, scene)
    if fused.dtype != torch.float32:
        raise Breach(f"fuse gave {fused.dtype} for float32 images; expected torch.float32")
    mean, largest, peak = fused.mean().item(), fused.abs().max().item(), scene.sensor.peak
    if not (mean > 5 and largest < 4 * peak):
        raise Breach(
            f"fuse gave values of mean {mean:.3g}, up to {largest:.3g}, where the images are digital numbers up to "
            f"{peak:g}: what is normalised within must be undone"
        )


def check_batch(method: Ready, scene: Scene, around: Around = lambda image: nullcontext()) -> None:
    """Every image of a batch is fused as it is alone. ``around`` is entered with None for the whole batch, and with
    the index of every image for it alone."""
    with around(None):
        both = fuse(method, scene)
    for i in range(len(scene)):
        with around(i):
            alone = fuse(method, scene[i])
        apart = (both[i] - alone[0]).abs().max().item()
        if apart > _BATCH_TOLERANCE * scene.sensor.peak:
            raise Breach(
                f"image {i} differs by up to {apart:.3g} DN when it is fused alone: a statistic over dim 0, or "
                "batch normalisation that is still training"
            )


def check_repeatable(method: Ready, scene: Scene) -> None:
    """The same scene gives the same image, whatever the global generator's state."""
    first = fuse(method, scene)
    torch.manual_seed(123)
    again = fuse(method, scene)
    if not torch.equal(again, first):
        apart = (again - first).abs().max().item()
        raise Breach(
            f"the same scene fused twice differs by up to {apart:.3g} DN: draw with a generator of your own, "
            "seeded in fuse"
        )


def check_inputs_kept(method: Ready, scene: Scene) -> None:
    """What a method gets is left as it was."""
    images = {k: x for k in ("pan", "ms", "lms", "gt") if (x := getattr(scene, k)) is not None}
    before = {k: x.clone() for k, x in images.items()}
    fuse(method, scene)
    if changed := [k for k, x in images.items() if not torch.equal(x, before[k])]:
        raise Breach(f"fuse changes {', '.join(changed)} in place; clone first")


def check_sizes(method: Ready, sensor: Sensor) -> None:
    """Sizes that are multiples of the ratio and of nothing else, and not square."""
    least = -(-method.card.smallest // 4) * 4
    fuse(method, scenes(sensor, 1, max(52, least + 4), max(76, least + 12)))


def check_steps(method: Ready, seen: Watched) -> None:
    """The trainer takes the steps, and they reach networks and gradients as it prepared them."""
    if not isinstance(method, TrainedMethod) or method.closed_form:
        return
    if not seen.steps:
        raise Breach(
            "fit takes no steps by trainer.run, which keeps log and checkpoints and resumes; closed_form = True "
            "says that there are none to take"
        )
    if seen.strays:
        raise Breach(
            f"a training step calls {', '.join(sorted(set(seen.strays)))} itself: reach networks through "
            "self.networks[...], whose entries the trainer replaces by their prepared forms"
        )
    if not seen.differentiated:
        raise Breach(
            "no training step calls backward(loss), which it is given to take the place of loss.backward()"
        )


def check_state(method: Ready, entry: Entry[MethodCard], scene: Scene) -> None:
    """``state_dict`` holds all that ``fuse`` needs."""
    if not isinstance(method, TrainedMethod):
        return
    torch.manual_seed(99)
    again = build(entry, method.sensor, method.config)
    assert isinstance(again, TrainedMethod)
    again.load_state_dict(method.state_dict())
    if not torch.equal(fuse(again.eval(), scene), fuse(method, scene)):
        raise Breach(
            "a fresh method with this one's state_dict fuses otherwise: what fit learns must be parameters or "
            "buffers (self.register_buffer)"
        )


def check_presets(entry: Entry[MethodCard]) -> None:
    """The three presets are there and their options exist; typing mistakes in options are named."""
    if not is_trained(entry):
        return
    if missing := {"quick", "standard", "paper"} - set(entry.obj.presets):
        raise Breach(f"presets lack {', '.join(sorted(missing))}; every method that learns has the three")
    for preset in entry.obj.presets:
        try:
            resolve_config(entry, preset)
        except (BenchError, TypeError) as error:
            raise Breach(f"preset {preset!r} does not fit Config: {error}") from error
    if not any(f.name == "steps" for f in fields(entry.obj.Config)) and not entry.obj.closed_form:
        raise Breach(
            "Config has no option steps, the length of training; or closed_form = True where there are none"
        )


def check_card(entry: Entry[MethodCard]) -> None:
    """The card says what the method is."""
    card = entry.card
    if not card.summary or len(card.summary) >= 200:
        raise Breach(
            "the card needs a summary of less than 200 signs: the docstring's first line, or summary="
        )
    if is_trained(entry) != (card.training != "none"):
        what = (
            "a class that learns" if is_trained(entry) else "a function, or a class that is no TrainedMethod"
        )
        raise Breach(f"the card says training={card.training!r}, but this is {what}")
    if (card.kind == "oracle") != (card.sees == "reference"):
        raise Breach(
            f"kind={card.kind!r} and sees={card.sees!r}: an oracle, and nothing else, sees the reference"
        )


# -- metrics -------------------------------------------------------------------------------------------------


def check_metric(entry: Entry[MetricCard], sensor: Sensor) -> None:
    """One float64 an image in every column, from arguments that its protocol offers, each image by itself."""
    card = entry.card
    for other in METRICS:
        alike = set(card.columns) & set(other.card.columns)
        if other.name != card.name and alike and set(card.protocols) & set(other.card.protocols):
            raise Breach(
                f"metric {other.name!r} gives {', '.join(sorted(alike))} too: call its columns otherwise"
            )
    if card.scope == "set":
        _check_set_metric(entry, sensor)
        return
    for protocol, from_pan in _protocols_of(entry):
        side = -(-(protocol.cut + max(_SIDE, card.smallest)) // 32) * 32
        scene = scenes(sensor, 2, side, side)
        output = scene.lms
        assert output is not None
        if not from_pan:  # a calibration: another camera's image in the same bands
            scene = Scene(replace(sensor, source=sensor.bands), pan=output + 1, gt=scene.gt)
        offered = protocol.offered(output, scene)
        before = {k: x.clone() for k, x in offered.items() if isinstance(x, Tensor)}
        both = _values(entry, offered)
        if changed := [k for k, x in before.items() if not torch.equal(offered[k], x)]:
            raise Breach(f"it changes {', '.join(changed)} in place; clone first")
        alone = _values(entry, protocol.offered(output[1:], scene[1]), 1)
        for column, whole, own in zip(card.columns, both, alone, strict=True):
            if not torch.allclose(whole[1:], own, rtol=1e-6, atol=1e-9):
                raise Breach(
                    f"{column} of an image is {own.item():.6g} alone and {whole[1].item():.6g} in a batch"
                )


def _protocols_of(entry: Entry[MetricCard]) -> list[tuple[Protocol, bool]]:
    """The protocols that compute a metric, and whether their scenes start from PAN."""
    if strange := strange_protocol(entry.card):
        raise Breach(strange)
    known = [(p, track.obj.source == "PAN") for track in TRACKS for p in track.obj.protocols]
    return [(p, from_pan) for p, from_pan in known if p.metrics in entry.card.protocols]


def _values(entry: Entry[MetricCard], offered: dict[str, Any], n: int = 2) -> tuple[Tensor, ...]:
    result = call_by_name(entry.obj, offered, f"metric {entry.name!r}")
    values = result if isinstance(result, tuple) else (result,)
    if len(values) != len(entry.card.columns):
        raise Breach(f"it gave {len(values)} quantities for its columns {', '.join(entry.card.columns)}")
    for column, value in zip(entry.card.columns, values, strict=True):
        if not isinstance(value, Tensor) or value.shape != (n,):
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise Breach(
                f"{column} is {found} for {n} images; expected a tensor of one value an image, ({n},)"
            )
        if value.dtype != torch.float64:
            raise Breach(f"{column} is {value.dtype}; metrics compute in torch.float64")
        if not value.isfinite().all():
            raise Breach(f"{column} of plain images is {value.tolist()}")
    return values


def _check_set_metric(entry: Entry[MetricCard], sensor: Sensor) -> None:
    scene = scenes(sensor, 4, 2 * _SIDE, 2 * _SIDE)
    for protocol, from_pan in _protocols_of(entry):
        metric = entry.obj(sensor)
        roles = {"target": scene.gt} if protocol.target else {}
        roles |= {"output": scene.lms, "source": scene.pan}
        roles |= {"truth": scene.gt} if protocol.needs_gt or not from_pan else {}
        for role, images in roles.items():
            metric.add(role, images)
        scores = tuple(metric.scores())
        if len(scores) != len(entry.card.columns):
            raise Breach(
                f"scores() gave {len(scores)} quantities for its columns {', '.join(entry.card.columns)}"
            )
        try:
            json.dumps(metric.curves())
        except TypeError as error:
            raise Breach(f"curves() gave what JSON cannot hold: {error}") from error


# -- datasets ------------------------------------------------------------------------------------------------


def check_dataset(dataset: Dataset, sensor: str) -> None:
    """Its splits are scenes of the card's sensor in DN, the same whenever they are read, its files have hashes."""
    if dataset.sensor.name != sensor:
        raise Breach(f"its card says sensor={sensor!r}, but its images are of {dataset.sensor.name!r}")
    if not (splits := dataset.available()):
        raise Breach("available() names no split")
    for name in splits:
        split, where = dataset.split(name), f"split {name!r}"
        if not len(split):
            raise Breach(f"{where} is empty")
        scene = split[0]
        stored = {k: x for k in ("pan", "ms", "lms", "gt") if (x := getattr(scene, k)) is not None}
        if set(stored) != set(split.keys):
            raise Breach(f"{where} has keys {split.keys}, and its scenes hold {tuple(stored)}")
        for key, image in stored.items():
            low, high = (float(x) for x in image.aminmax())
            if image.dtype != torch.float32 or len(image) != 1:
                raise Breach(
                    f"{where}: [0] gave {key} {tuple(image.shape)} {image.dtype}; expected (1, ...) float32"
                )
            if not image.isfinite().all():
                raise Breach(f"{where}: {key} has values that are NaN or infinite")
            if low < -0.1 * dataset.sensor.peak or dataset.sensor.looks_normalised(low, high):
                peak = dataset.sensor.peak
                raise Breach(
                    f"{where}: {key} lies in {low:.3g} to {high:.3g}; expected DN, about 0 to {peak:g}"
                )
            if not torch.equal(getattr(split[0], key), image):
                raise Breach(f"{where}: {key} of scene 0 is another each time it is read")
        if len(split[0 : min(2, len(split))]) != min(2, len(split)):
            raise Breach(f"{where}: a slice of two gives {len(split[0:2])} scenes")
    files = dataset.files()
    if {f.split for f in files} < set(splits) or any(len(f.sha256) != 64 for f in files):
        raise Breach(
            "files() must give the SHA-256 of what is behind every split: a table never mixes others"
        )
    try:
        json.dumps(dataset.provenance())
    except TypeError as error:
        raise Breach(f"provenance() gave what JSON cannot hold: {error}") from error


def check_sensor(sensor: Sensor) -> None:
    """Its figures are of a camera: distinct bands, gains and a peak that images have."""
    if len(set(sensor.bands)) != sensor.channels:
        raise Breach(f"two bands have one name: {', '.join(sensor.bands)}")
    if len(set(sensor.rgb)) != min(3, sensor.channels):
        raise Breach(
            f"rgb={sensor.rgb} shows one band twice; it holds the places of red, green and blue in bands"
        )
    if sensor.source == ("pan",):
        if odd := [g for g in (*sensor.mtf, sensor.mtf_pan) if not 0.05 < g < 0.6]:
            raise Breach(f"MTF gain {odd[0]:g} at Nyquist is no camera's: they lie between 0.1 and 0.4 or so")
        if sensor.peak <= 1:
            raise Breach(f"peak={sensor.peak:g}: images are digital numbers, e.g. up to 2047 for 11 bits")


# -- all of it -----------------------------------------------------------------------------------------------


def findings(kind: str, entry: Entry[Any], root: Path | None = None) -> Iterator[Finding]:
    """Everything that is asked of one registered thing, as it is answered; a dataset's files lie in ``root``."""

    def ask(what: str, check: Callable[[], object]) -> Finding:
        try:
            with blaming("it failed"):
                check()
        except BenchError as error:
            return Finding(kind, entry.name, what, str(error))
        return Finding(kind, entry.name, what)

    if kind == "method":
        yield ask("its card says what it is", lambda: check_card(entry))
        yield ask("its presets and options fit", lambda: check_presets(entry))
        if "pansharpening" in entry.card.tracks:
            for sensor in SENSORS_TRIED:
                yield from _fusing(entry, sensor, ask)
    elif kind == "metric":
        for sensor in SENSORS_TRIED:
            what = "values of the set" if entry.card.scope == "set" else "a float64 an image"
            yield ask(f"{sensor.name}: {what}, by column", partial(check_metric, entry, sensor))
    elif kind == "sensor":
        yield ask("bands, gains and peak of a camera", lambda: check_sensor(entry.obj))
    elif kind == "dataset":
        yield ask(
            "scenes in DN of its sensor, files with hashes",
            lambda: check_dataset(opened(entry, data_root(root)), entry.card.sensor),
        )


def check_plugin(path: str | Path, name: str | None = None, root: Path | None = None) -> Iterator[Finding]:
    """Load a plug-in file and ask everything that it registers, or what is called so; datasets' files are below
    ``root``, or the folder that ``PANSHARP_DATA`` names. Raises BenchError for a file that fails or registers
    nothing of that name."""
    with warnings.catch_warnings(action="ignore"):  # what a file does not register is an error here
        load_plugin(path)
    entries = registered_by(path)
    chosen = [(kind, entry) for kind, entry in entries if name in (None, entry.name)]
    if not chosen:
        known = ", ".join(entry.name for _, entry in entries) or "nothing"
        raise BenchError(
            f"{path} registers no {name!r}; it registers {known}" if name else f"{path} registers nothing"
        )
    for kind, entry in chosen:
        yield from findings(kind, entry, root)


def _fusing(
    entry: Entry[MethodCard], sensor: Sensor, ask: Callable[[str, Callable[[], object]], Finding]
) -> Iterator[Finding]:
    made: list[tuple[Ready, Watched]] = []
    first = ask(
        f"{sensor.name}: it {'learns in two steps' if is_trained(entry) else 'is made'}",
        lambda: made.append(made_ready(entry, sensor)),
    )
    yield first
    if first.problem:
        return
    method, seen = made[0]
    side = max(_SIDE, -(-entry.card.smallest // 16) * 16)
    scene = scenes(sensor, 2, side, side + 16)
    yield ask(f"{sensor.name}: an image in DN of PAN's size", lambda: check_output(method, scene))
    try:
        fuse(method, scene)
    except Exception:  # has been told, and nothing can be asked of an image that is not there
        return
    if entry.card.sees != "pan+bag":  # each image's pixels are put in an order of their own
        yield ask(f"{sensor.name}: a batch is its images", lambda: check_batch(method, scene))
    yield ask(f"{sensor.name}: the same scene, the same image", lambda: check_repeatable(method, scene))
    yield ask(f"{sensor.name}: inputs are left as they were", lambda: check_inputs_kept(method, scene))
    yield ask(f"{sensor.name}: any multiple of the ratio", lambda: check_sizes(method, sensor))
    if is_trained(entry):
        yield ask(f"{sensor.name}: steps reach prepared networks", lambda: check_steps(method, seen))
        yield ask(f"{sensor.name}: state_dict holds all of it", lambda: check_state(method, entry, scene))
