"""Where the camera is and looks, frame by frame.

All filters of a frame are exposed together, so a frame has one pose: ``Poses`` holds them as plain arrays in
Jupiter's body-fixed frame (IAU_JUPITER: +Z the north pole, +X at System III longitude 0, east positive), and
nothing downstream knows where they came from. They come from an ``Ephemeris`` (where the spacecraft, the Sun
and Jupiter are; SPICE here) and an ``Attitude`` (how the camera is turned; a C kernel, or a steady spin).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pansharp_bench.datasets.jupiter.ellipsoid import RADII
from pansharp_bench.datasets.jupiter.junocam.camera import JunoCam
from pansharp_bench.datasets.jupiter.junocam.raw import Label
from pansharp_bench.errors import BenchError, DataError

SPIN_RATE = 1.98 * 2 * np.pi / 60  # rad/s; Juno near perijove
_C = 299792.458

JUNO_EXTRA = 'this needs the extra "juno": pip install "pansharp-bench[juno]"'


@dataclass(frozen=True)
class States:
    """Everything but the attitude, at F times, in the body-fixed frame: ``position`` (F, 3) of the spacecraft
    in km, ``sun`` (F, 3) unit direction from Jupiter, ``beta`` (F, 3) the spacecraft's velocity about the
    Solar System's barycentre over that of light (aberration), ``from_inertial`` (F, 3, 3) from J2000."""

    position: np.ndarray
    sun: np.ndarray
    beta: np.ndarray
    from_inertial: np.ndarray


@dataclass(frozen=True)
class Poses:
    """What projecting needs of F frames: ``position``, ``sun``, ``beta`` as in States, and ``rotation``
    (F, 3, 3), camera to body-fixed."""

    position: np.ndarray
    sun: np.ndarray
    beta: np.ndarray
    rotation: np.ndarray

    def __len__(self) -> int:
        return len(self.position)

    def __getitem__(self, frames: Any) -> Poses:
        return Poses(self.position[frames], self.sun[frames], self.beta[frames], self.rotation[frames])


class Ephemeris(Protocol):
    """States at times et (seconds past J2000, TDB)."""

    def states(self, et: np.ndarray) -> States: ...


class Attitude(Protocol):
    """Rotations (F, 3, 3), camera to J2000, at times et."""

    def rotation(self, et: np.ndarray) -> np.ndarray: ...


def poses(ephemeris: Ephemeris, attitude: Attitude, et: np.ndarray) -> Poses:
    """The poses at times et."""
    s = ephemeris.states(et)
    return Poses(s.position, s.sun, s.beta, s.from_inertial @ attitude.rotation(et))


def frame_times(label: Label, start_et: float, camera: JunoCam, jitter: float = 0.0) -> np.ndarray:
    """Times (frames,) of the exposures: START_TIME + bias + jitter + n (INTERFRAME_DELAY + delta)."""
    step = label.interframe_s + camera.interframe_delta
    return start_et + camera.start_bias + jitter + step * np.arange(label.frames)


@dataclass(frozen=True)
class Spin:
    """A steady spin about the spacecraft's +Z, which points to (``ra``, ``dec``) in J2000; ``phase`` is the
    angle about it at ``epoch`` (et), growing by ``rate``. Angles in radians."""

    ra: float
    dec: float
    phase: float
    rate: float
    epoch: float
    mount: np.ndarray  # (3, 3), camera to spacecraft

    def rotation(self, et: np.ndarray) -> np.ndarray:
        angle = self.phase + self.rate * (np.asarray(et, float) - self.epoch)
        tilt = _about_z(self.ra) @ _about_y(np.pi / 2 - self.dec)
        return tilt @ _about_z(angle) @ np.asarray(self.mount)


def _about_z(angle: Any) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    zero, one = np.zeros_like(c), np.ones_like(c)
    return np.stack([c, -s, zero, s, c, zero, zero, zero, one], -1).reshape(*np.shape(c), 3, 3)


def _about_y(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


# ------------------------------------------------------------------------------------------------- SPICE


class Spice(AbstractContextManager):
    """Ephemeris and C-kernel attitude from a folder of kernels (all ``*.tls *.tsc *.tf *.ti *.tpc *.bsp *.bc``
    in it, or its one or more meta-kernels ``*.tm``); a context manager, as SPICE's kernel pool is one for the
    whole process.

    ``shift`` (seconds) is added to the time at which the trajectory is looked up, not to Jupiter's rotation:
    a predicted trajectory is mostly early or late. Raises DataError when a kernel is missing or does not
    cover a time.
    """

    def __init__(self, kernels: Path | str, shift: float = 0.0) -> None:
        try:
            import spiceypy
        except ImportError as error:
            raise BenchError(f"spiceypy is not installed; {JUNO_EXTRA}") from error
        self.spice = spiceypy
        self.shift = shift
        self.folder = Path(kernels)
        if not self.folder.is_dir():
            raise DataError(f"the kernel folder {self.folder} does not exist")
        files = sorted(p for p in self.folder.iterdir() if p.is_file())
        chosen = [p for p in files if p.suffix.lower() == ".tm"]
        if not chosen:
            wanted = (".tls", ".tsc", ".tf", ".ti", ".tpc", ".bsp", ".bc")
            chosen = [p for p in files if p.suffix.lower() in wanted]
            have = {p.suffix.lower() for p in chosen}
            for suffix, what in (
                (".tls", "leap seconds, e.g. naif0012.tls"),
                (".tf", "frames, juno_v12.tf"),
                (".ti", "the JunoCam instrument, juno_junocam_v03.ti"),
                (".tpc", "planetary constants, e.g. pck00010.tpc"),
                (".bsp", "the trajectory, e.g. an spk_rec_*.bsp of the perijove"),
            ):
                if suffix not in have:
                    raise DataError(
                        f"{self.folder} has no *{suffix} kernel ({what}); NAIF's Juno archive has it"
                    )
        self._files = chosen
        self._ck = [p for p in chosen if p.suffix.lower() == ".bc"]

    def moved(self, shift: float) -> Spice:
        """The same kernels with the trajectory moved by ``shift`` seconds."""
        other = copy.copy(self)
        other.shift = shift
        return other

    def __enter__(self) -> Spice:
        for index, path in enumerate(self._files):
            try:
                self.spice.furnsh(str(path))
            except Exception as error:
                for loaded in self._files[:index]:
                    self.spice.unload(str(loaded))
                raise DataError(f"{path} cannot be loaded as a SPICE kernel: {_short(error)}") from error
        return self

    def __exit__(self, *_: object) -> None:
        for path in reversed(self._files):
            self.spice.unload(str(path))

    def camera(self) -> JunoCam:
        """The camera as the instrument and frame kernels describe it."""
        return JunoCam.from_spice(self.spice)

    def radii(self) -> tuple[float, float, float]:
        a, b, c = (float(r) for r in self.spice.bodvrd("JUPITER", "RADII", 3)[1])
        return a, b, c

    def time(self, utc: str) -> float:
        """Seconds past J2000 (TDB) of a UTC text. Raises DataError when it is none."""
        try:
            return float(self.spice.str2et(utc.removesuffix("Z")))
        except Exception as error:
            raise DataError(f"START_TIME {utc!r} is no time: {_short(error)}") from error

    def states(self, et: np.ndarray) -> States:
        et = np.atleast_1d(np.asarray(et, float))
        position, sun, beta, turn = (np.empty((len(et), *s)) for s in ((3,), (3,), (3,), (3, 3)))
        sp = self.spice
        try:
            for i, t in enumerate(et):
                away, light = sp.spkpos("JUPITER", t + self.shift, "J2000", "LT", "JUNO")
                seen = t - light  # Jupiter is seen turned as it was when the light left
                turn[i] = sp.pxform("J2000", "IAU_JUPITER", seen)
                position[i] = turn[i] @ -away
                solar = turn[i] @ sp.spkpos("SUN", seen, "J2000", "LT+S", "JUPITER")[0]
                sun[i] = solar / np.linalg.norm(solar)
                velocity = sp.spkezr("JUNO", t + self.shift, "J2000", "NONE", "SOLAR SYSTEM BARYCENTER")[0][
                    3:
                ]
                beta[i] = turn[i] @ velocity / _C
        except Exception as error:
            when = sp.et2utc(float(et[0]), "ISOC", 0)
            raise DataError(
                f"the kernels in {self.folder} do not say where Juno is at {when}: {_short(error)}"
            ) from error
        return States(position, sun, beta, turn)

    def rotation(self, et: np.ndarray) -> np.ndarray:
        """Camera to J2000 from the C kernels. Raises DataError where they do not cover a time."""
        try:
            return np.stack([self.spice.pxform("JUNO_JUNOCAM", "J2000", float(t)) for t in np.atleast_1d(et)])
        except Exception as error:
            raise DataError(
                f"the kernels in {self.folder} hold no attitude (C kernel, *.bc) at "
                f"{self.spice.et2utc(float(np.atleast_1d(et)[0]), 'ISOC', 0)}: {_short(error)}"
            ) from error

    def covers(self, et: np.ndarray) -> bool:
        """Whether C kernels give the attitude at all times et."""
        try:
            self.rotation(et)
        except DataError:
            return False
        return True

    def spin_axis(self, et: float) -> tuple[float, float]:
        """Right ascension and declination of the Earth from Juno: its high-gain antenna, the spin axis, points
        there in most passes."""
        earth = self.spice.spkpos("EARTH", et, "J2000", "LT+S", "JUNO")[0]
        ra, dec = (float(a) for a in self.spice.recrad(earth)[1:])
        return ra, dec


def _short(error: Exception) -> str:
    """SPICE's own explanation, without the banner."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =-")]
    kept = [line for line in lines if "SPICE(" in line or "--" in line or "Toolkit" not in line]
    return " ".join(kept)[:300]


def subpoint(position: np.ndarray, radii: Sequence[float] = RADII) -> tuple[float, float, float]:
    """Planetographic latitude (degrees), System III west longitude (0..360) and altitude (km) of the point of
    the ellipsoid nearest to a position (3,) km."""
    a, c = radii[0], radii[2]
    rho, z = np.hypot(position[0], position[1]), position[2]
    lat = np.arctan2(z, rho)
    for _ in range(50):  # fixed point on the surface normal; contracts by e² a/r each time
        n = a / np.sqrt(1 - (1 - (c / a) ** 2) * np.sin(lat) ** 2)
        lat = np.arctan2(z + (1 - (c / a) ** 2) * n * np.sin(lat), rho)
    n = a / np.sqrt(1 - (1 - (c / a) ** 2) * np.sin(lat) ** 2)
    height = rho * np.cos(lat) + z * np.sin(lat) - a * a / n
    return (
        float(np.degrees(lat)),
        float(np.degrees(-np.arctan2(position[1], position[0])) % 360),
        float(height),
    )


def trajectory_shift(spice: Spice, label: Label, limit: float = 60.0) -> float:
    """Seconds by which the kernels' trajectory is to be moved so that altitude and latitude are the label's.

    Least squares in km over ±``limit`` seconds; 0 when the label gives neither. Raises DataError when the
    best shift is at the limit or leaves more than 200 km: then it is another trajectory, not a late one.
    """
    from scipy.optimize import minimize_scalar

    told_altitude, told_latitude = label.altitude_km, label.latitude
    if told_altitude is None or told_latitude is None:
        return 0.0
    start = spice.time(label.start_utc)
    radii = spice.radii()

    def miss(shift: float) -> float:
        position = spice.moved(shift).states(np.array([start])).position[0]
        latitude, _, altitude = subpoint(position, radii)
        return (altitude - told_altitude) ** 2 + (np.radians(latitude - told_latitude) * radii[0]) ** 2

    best = minimize_scalar(miss, bounds=(-limit, limit), method="bounded", options={"xatol": 1e-3})
    if abs(best.x) > 0.99 * limit or best.fun > 200.0**2:
        raise DataError(
            f"{label.source}: altitude and latitude are {np.sqrt(best.fun):.0f} km from the kernels' trajectory "
            f"even when that is moved by {best.x:.0f} s: the kernels do not belong to this image"
        )
    return float(best.x)
