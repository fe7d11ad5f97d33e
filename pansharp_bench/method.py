"""What a method is, and how the engine calls one.

A simple method is a function ``(pan, ms, *, sensor) -> fused``; it may also ask for ``lms``, ``reference`` or
``latitude`` by naming them. A trained method is a class derived from :class:`TrainedMethod`. Both are called
through :func:`build`, which gives an object with ``fuse(scene)``.
"""

from __future__ import annotations

import inspect
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache
from inspect import get_annotations
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from pansharp_bench.errors import BenchError, ImageError, blaming
from pansharp_bench.presets import PRESETS, Options, is_trained, settled_options
from pansharp_bench.registry import METHODS, SENSORS, Entry, MethodCard
from pansharp_bench.scene import Scene, Sensor, as_images, as_sensor
from pansharp_bench.weights import described, load_exactly, located, misfits, read_weights

Pairing = Literal["disjoint", "independent"]
Target = Literal["lms", "gt"]


@dataclass(frozen=True)
class TrainingData:
    """What a method wants to be served in training, beyond what its card says.

    Unpaired: ``pairing`` says how PAN and MS images are kept apart (``disjoint``: no scene gives both; where they
    are unpaired from the start, a target is drawn from the group of its source, or with ``independent`` from all),
    ``target`` whether MS images are the expanded ones or the sharp references (``gt``: an upper bound, not a
    result).
    """

    pairing: Pairing = "disjoint"
    target: Target = "lms"


class Method(Protocol):
    """What the protocols drive."""

    @property
    def card(self) -> MethodCard:
        """What stands beside it in the registry."""
        ...

    def fuse(self, scene: Scene) -> Tensor:
        """(N, C, H, W) DN on the scene's device."""
        ...


@dataclass(frozen=True)
class FunctionMethod:
    """A registered function in the shape of a Method."""

    card: MethodCard
    function: Callable[..., Tensor]

    def fuse(self, scene: Scene) -> Tensor:
        """Call the function with what it asks for by name. Raises ImageError for images below its least size."""
        if min(scene.pan.shape[-2:]) < (smallest := self.card.smallest):
            raise ImageError(
                f"method {self.card.name!r} needs images of at least {smallest} x {smallest} PAN pixels; "
                f"found pan {tuple(scene.pan.shape)}"
            )
        offered = {
            "pan": scene.pan,
            "ms": scene.ms,
            "lms": scene.lms,
            "reference": scene.gt,
            "latitude": scene.latitude,
            "sensor": scene.sensor,
        }
        return call_by_name(self.function, offered, f"method {self.card.name!r}")

    def asks_for(self, name: str) -> bool:
        """Whether the function has an argument of that name which it cannot do without."""
        asked = inspect.signature(self.function).parameters.get(name)
        return asked is not None and asked.default is asked.empty


def checked_image(fused: Any, scene: Scene, who: str, where: str = "") -> Tensor:
    """What ``fuse`` gave for these scenes. Raises BenchError, which says ``who`` gave what, and ``where``, for
    anything but float images of PAN's size, in the sensor's bands, on the device of the scenes."""
    expected = (len(scene), scene.sensor.channels, *scene.pan.shape[-2:])
    if not isinstance(fused, Tensor):
        found = f"{type(fused).__module__}.{type(fused).__qualname__}".removeprefix("builtins.")
    elif fused.shape != expected:
        found = f"an image of shape {tuple(fused.shape)}"
    elif fused.dtype not in (torch.float32, torch.float64):
        found = f"values of {fused.dtype}"
    elif fused.device != scene.pan.device:
        found = f"an image on {fused.device}"
    else:
        return fused
    raise BenchError(
        f"{who} gave {found} for {where or f'pan {tuple(scene.pan.shape)}'}; expected {expected}, torch.float32, "
        f"on {scene.pan.device}"
    )


def call_by_name(function: Callable[..., Any], offered: Mapping[str, Any], who: str) -> Any:
    """Call a function with what it asks for by name. Raises BenchError where it is not offered."""
    wanted = inspect.signature(function).parameters.values()
    named = [p for p in wanted if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if unknown := [p.name for p in named if p.name not in offered and p.default is p.empty]:
        raise BenchError(f"{who} asks for {', '.join(unknown)}; it may ask for {', '.join(offered)}")
    return function(**{p.name: offered[p.name] for p in named if p.name in offered})


class TrainedMethod(nn.Module):
    """Base of methods that learn. Subclasses give ``Config``, ``presets``, ``fit`` and ``fuse``.

    ``Config`` is a frozen dataclass of every option, the training length among them; ``presets`` maps a
    preset's name to the options it changes. ``state_dict`` must hold all that ``fuse`` needs. The method owns
    its normalisation: DN in, DN out.
    """

    @dataclass(frozen=True)
    class Config:
        steps: int = 0

    presets: ClassVar[dict[str, dict[str, Any]]] = {name: {} for name in PRESETS}
    closed_form: ClassVar[bool] = False
    """Whether ``fit`` takes statistics and no steps: seconds, whatever the preset."""
    card: MethodCard

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        if "Config" in vars(cls):
            _check_config(cls.Config, f"{cls.__name__}.Config")
        if not isinstance(cls.presets, Mapping) or not all(
            isinstance(p, Mapping) for p in cls.presets.values()
        ):
            raise TypeError(
                f"{cls.__name__}.presets is no dict of dicts: the options that each preset changes"
            )

    def __init__(self, sensor: Sensor, config: Config | None = None) -> None:
        super().__init__()
        self.sensor = sensor
        self.config = config or self.Config()

    @abstractmethod
    def fit(self, data: Any, trainer: Any) -> dict[str, Any] | None:
        """Learn from ``data`` (:class:`PairedData` or :class:`UnpairedData`, as the card's ``training``
        says) with ``trainer`` (:class:`Trainer`), whose own summary is recorded. Gives what else was fitted, for
        the record: JSON-able."""

    def training_data(self) -> TrainingData:
        """What :meth:`fit` wants to be served."""
        return TrainingData()

    @abstractmethod
    def fuse(self, scene: Scene) -> Tensor:
        """(N, C, H, W) DN, from what the card's ``sees`` allows."""

    def load_weights(self, path: str | Path) -> None:
        """Take weights from a ``.safetensors`` or PyTorch file: those a run of ours saved, or the authors'
        where :meth:`own_keys` knows their names. ``FILE:NAME`` chooses among several state dicts. Raises BenchError
        naming the keys that do not fit, or what is inside where it is not clear which is meant."""

        def wrong(state: dict[str, Tensor]) -> int:
            try:
                return sum(map(len, misfits(self, self.own_keys(state)).values()))
            except BenchError:
                return len(state)

        load_exactly(self, self.own_keys(read_weights(path, wrong)), f"weights {path}")

    def own_keys(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of the authors' code under this method's own keys; others are returned unchanged."""
        return state

    @classmethod
    def told(cls) -> dict[str, Any]:
        """What is kept beside its card: see :class:`~pansharp_bench.presets.Options`."""
        usual = cls.Config()
        return {
            "options": {
                "usual": {f.name: getattr(usual, f.name) for f in fields(usual)},
                "presets": cls.presets,
                "choices": _choices(cls.Config),
                "closed_form": cls.closed_form,
            }
        }

    @classmethod
    def configure(cls, preset: str, options: Mapping[str, Any] | None = None) -> Config:
        """The Config of a preset with options changed; strings are read as the option's type.

        Raises BenchError on an unknown preset or option, a value of another type, one that is no finite number, and
        for an option whose type is a ``Literal`` one that is not among its values.
        """
        settled = Options(**cls.told()["options"]).settle(preset, options)
        try:
            return cls.Config(**settled)
        except (TypeError, ValueError) as error:
            raise BenchError(f"these options do not fit together: {error}") from error


def _check_config(config: type, name: str) -> None:
    """Raise TypeError for options that could not be told, so that no list, ``--set`` or record would know them."""
    if not is_dataclass(config) or (get_annotations(config) and "__dataclass_fields__" not in vars(config)):
        raise TypeError(f"{name} is no dataclass of its own: write @dataclass(frozen=True) above it")
    known = {f.name for f in fields(config)}
    plain = [
        k for k, v in vars(config).items() if not (k.startswith("_") or callable(v) or hasattr(v, "__get__"))
    ]
    if untyped := [k for k in plain if k not in known and k not in get_annotations(config)]:
        raise TypeError(f"{name}.{untyped[0]} is no option without a type: {untyped[0]}: int = ...")
    if bare := [f.name for f in fields(config) if f.default is MISSING and f.default_factory is MISSING]:
        raise TypeError(f"{name}.{bare[0]} has no default, which every option needs")
    try:
        config()
        _choices(config)
    except Exception as error:
        raise TypeError(f"the options of {name} cannot be told: {error}") from error


@cache
def _choices(config: type) -> dict[str, tuple[Any, ...]]:
    """Of the options whose type is a ``Literal``."""
    hints = get_type_hints(config)
    return {name: get_args(kind) for name, kind in hints.items() if get_origin(kind) is Literal}


def resolve_config(
    entry: Entry[MethodCard], preset: str, options: Mapping[str, Any] | None = None
) -> TrainedMethod.Config | None:
    """Every option of a trained method under a preset; None for a function. Raises BenchError."""
    if is_trained(entry):
        return entry.obj.configure(preset, options)
    settled_options(entry, preset, options)  # which refuses what a function cannot be told
    return None


def build(
    entry: Entry[MethodCard], sensor: Sensor, config: TrainedMethod.Config | None = None
) -> FunctionMethod | TrainedMethod:
    """The method of an entry, for a sensor; a trained one with fresh weights. Raises BenchError where its class
    fails, or lacks what a method must have."""
    if not is_trained(entry):
        return FunctionMethod(entry.card, entry.obj)
    own = (name for name in ("fit", "fuse") if hasattr(getattr(entry.obj, name), "__isabstractmethod__"))
    if lacks := " and ".join(own):
        raise BenchError(f"method {entry.name!r}: class {entry.obj.__name__} has no {lacks} of its own")
    with blaming(f"method {entry.name!r} cannot be made"):
        method = entry.obj(sensor, config)
    method.card = entry.card
    return method


def named_method(name: str, weights: str | Path | None) -> str:
    """The name of a registered method: as given, or ``""`` for that which the weights tell. Raises BenchError where
    they tell none, UnknownName where none is registered so."""
    if name:
        return METHODS.get(name).name
    if weights is None:
        raise BenchError("which method? Give its name, or weights that `bench run` saved")
    if not (found := described(weights).get("method")):
        there = located(weights)[0].exists()
        why = "do not say which method they are of: give its name" if there else "do not exist"
        raise BenchError(f"weights {weights} {why}")
    return METHODS.get(found).name


def ready_method(
    name: str, sensor: Sensor, weights: str | Path | None = None
) -> FunctionMethod | TrainedMethod:
    """A pansharpening method to fuse with, with its weights where it is trained. Raises BenchError."""
    entry = METHODS.get(name)
    if "pansharpening" not in entry.card.tracks:
        raise BenchError(f"method {name!r} is made for {', '.join(entry.card.tracks)}, not for pansharpening")
    if weights is not None:
        return load_trained(name, sensor, weights)
    if is_trained(entry):
        raise BenchError(
            f"method {name!r} must be trained first, by `bench run --method {name}`, and given its weights"
        )
    return build(entry, sensor)


def told_run(weights: str | Path | None) -> tuple[str | None, dict[str, Any]]:
    """The preset that a run's weights were trained under, and the options that it changed."""
    told = described(weights) if weights else {}
    return told.get("preset"), {k: v for k, v in told_options(told).items() if k in told.get("changed", ())}


def told_options(told: Mapping[str, Any]) -> dict[str, Any]:
    """The options in what weights say of themselves (:func:`~pansharp_bench.weights.described`), as a Config has
    them."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in told.get("options", {}).items()}


def load_trained(name: str, sensor: Sensor, weights: str | Path) -> TrainedMethod:
    """A trained method with its weights, to fuse with.

    Weights that ``bench run`` saved say of which method, options and sensor they are; those of others are taken to
    be of the preset ``paper`` and of images as the toolbox lays them out.

    Raises:
        UnknownName: no such method.
        BenchError: it is not trained, or the weights are not of it, or do not fit the sensor.
    """
    entry, told = METHODS.get(name), described(weights)
    if not is_trained(entry):
        raise BenchError(f"method {name!r} is not trained; leave out the weights")
    if (of := told.get("method", name)) != name:
        raise BenchError(f"weights {weights} are of method {of!r}, not of {name!r}")
    options = told_options(told)
    of_sensor = told.get("sensor", "")
    known = isinstance(of_sensor, str) and of_sensor in SENSORS
    phase = as_sensor(of_sensor).phase if known else None
    method = build(entry, replace(sensor, phase=phase), entry.obj.configure("paper", options))
    assert isinstance(method, TrainedMethod)
    method.load_weights(weights)
    return method.eval().requires_grad_(False)


@dataclass(frozen=True)
class Loaded:
    """A pansharpening method, ready to fuse images of a sensor: :func:`load` gives it."""

    method: FunctionMethod | TrainedMethod
    sensor: Sensor

    @property
    def card(self) -> MethodCard:
        """What stands beside it in the registry."""
        return self.method.card

    def fuse(self, pan: Tensor, ms: Tensor) -> Tensor:
        """Fuse images, on the device that they are on.

        Warns where the result has values outside [-peak, 2 peak] (some methods divide by what may be nearly
        nothing), or all in [0, 1].

        Args:
            pan: (N, 1, H, W) DN, of any real number type.
            ms: (N, C, H/ratio, W/ratio) DN, with the sensor's bands and ratio.

        Returns:
            (N, C, H, W) DN, float64 where an input was (or held integers of 32 bits and more), else float32.

        Raises:
            ImageError: the images are no tensors of finite real numbers, are none, or do not belong together or to
                the sensor.
            BenchError: the method gives anything but an image.
        """
        from pansharp_bench.imaging import interp23

        pan, ms = as_images(pan, "pan"), as_images(ms, "ms")
        if pan.device != ms.device:
            raise ImageError(f"pan is on {pan.device} and ms on {ms.device}; move one of them")
        for what, image in (("pan", pan), ("ms", ms)):
            if not len(image):
                raise ImageError(f"{what} holds no image: {tuple(image.shape)}")
            if missing := int((~image.isfinite()).sum()):
                raise ImageError(
                    f"{what} has {missing} values that are NaN or infinite, and one of them spoils a whole image: "
                    "fill them or cut them away first"
                )
        dtype = torch.promote_types(pan.dtype, ms.dtype)
        pan, ms = pan.to(dtype), ms.to(dtype)
        scene = Scene(self.sensor, pan=pan, ms=ms)
        # a function that can do without expands for itself, and need not round to the type of the images
        if isinstance(self.method, TrainedMethod) or self.method.asks_for("lms"):
            scene = replace(scene, lms=interp23(ms, self.sensor))
        if isinstance(self.method, TrainedMethod):
            self.method.to(pan.device)
            scene = scene.to(pan.device, torch.float32)  # as its weights are
        fused = self.method.fuse(scene.seen_by(self.card))
        fused = checked_image(fused, scene, f"method {self.card.name!r}").to(dtype)
        if outlier := implausible(fused, self.sensor):
            warnings.warn(f"method {self.card.name!r} gave {outlier}", stacklevel=2)
        return fused


def load(name: str = "", *, weights: str | Path | None = None, sensor: str | Sensor | None = None) -> Loaded:
    """A pansharpening method, ready to fuse: an untrained one, or a trained one with its weights.

    Weights that ``bench run`` saved say which method and sensor they are of, so that neither need be given:
    ``pb.load(weights="weights.safetensors").fuse(pan, ms)``. Of others, such as authors', both must.

    Args:
        name: a registered method, e.g. ``"gsa"``.
        weights: of a trained method: what ``bench run`` saved, or the authors' file; ``FILE:NAME`` where a file
            holds several state dicts.
        sensor: registered name, e.g. ``"qb"``, or a Sensor.

    Raises:
        UnknownName: no such method or sensor.
        BenchError: method or sensor are not given and the weights do not tell them, the method needs training or is
            made for another track, or the weights do not fit.

    >>> import torch
    >>> gsa = load("gsa", sensor="qb")
    >>> gsa.fuse(torch.rand(1, 1, 64, 64) * 2047, torch.rand(1, 4, 16, 16) * 2047).shape
    torch.Size([1, 4, 64, 64])
    """
    name = named_method(name, weights)
    if sensor is None and weights is not None:
        sensor = described(weights).get("sensor")
    if sensor is None:
        told = "" if weights is None else f", which weights {weights} do not say"
        raise BenchError(f"method {name!r}: of which sensor are the images{told}? Give sensor=, e.g. 'qb'")
    sensor = as_sensor(sensor)
    return Loaded(ready_method(name, sensor, weights), sensor)


def fuse(
    name: str, pan: Tensor, ms: Tensor, sensor: str | Sensor, weights: str | Path | None = None
) -> Tensor:
    """Fuse with an untrained method, or with a trained one and its weights: :func:`load`, and its ``fuse``.

    Args:
        name, sensor, weights: see :func:`load`.
        pan: (N, 1, H, W) DN.
        ms: (N, C, H/ratio, W/ratio) DN.

    Returns:
        (N, C, H, W) DN; see :meth:`Loaded.fuse`, also for what is raised.

    >>> import torch
    >>> pan, ms = torch.rand(1, 1, 64, 64) * 2047, torch.rand(1, 4, 16, 16) * 2047
    >>> fuse("exp", pan, ms, sensor="qb").shape
    torch.Size([1, 4, 64, 64])
    """
    return load(name, weights=weights, sensor=sensor).fuse(pan, ms)


def implausible(fused: Tensor, sensor: Sensor) -> str:
    """Says so where values lie outside [-peak, 2 peak], which no ringing explains, or look normalised."""
    low, high = (float(v) for v in fused.detach().aminmax())
    if -sensor.peak <= low and high <= 2 * sensor.peak and not sensor.looks_normalised(low, high):
        return ""
    return f"values from {low:.4g} to {high:.4g} where the sensor's peak is {sensor.peak:g}"
