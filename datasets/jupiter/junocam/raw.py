"""Raw JunoCam images: labels, framelets, decompanding, flat field and bad pixels.

An image is a strip of framelets, 128 lines of 1648 samples each. Every frame (one exposure of the spinning
camera) leaves one framelet per filter, in the order of the label's FILTER_NAME. Two forms are read: PNG with
a metadata JSON (missionjuno.swri.edu) and PDS3 IMG with a detached or attached label (the EDR volumes).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pansharp_bench.datasets.jupiter.junocam import pds3
from pansharp_bench.errors import DataError

LINES, SAMPLES = 128, 1648
FIRST, LAST = 23, 1631  # photoactive columns: first <= column < last
BANDS = ("blue", "green", "red", "methane")

# The 12 -> 8 bit square-root companding: so many codes, each so many DN above the one before.
_SQROOT = ((23, 1), (20, 2), (46, 4), (95, 8), (25, 16), (46, 32))
_LINEAR = {"LIN1": 1, "LIN8": 8, "LIN16": 16}
MODES = ("SQROOT", *_LINEAR)


@dataclass(frozen=True)
class Label:
    """What a label says of one image; units as in the names of the fields.

    ``altitude_km``, ``latitude`` (planetographic) and ``longitude`` (System III west) are those of the
    spacecraft at the start, None where the label is silent.
    """

    product: str
    start_utc: str
    interframe_s: float
    exposure_ms: float
    bands: tuple[str, ...]
    lines: int
    samples: int
    bits: int
    mode: str
    source: str
    perijove: int | None = None
    altitude_km: float | None = None
    latitude: float | None = None
    longitude: float | None = None
    solar_distance_km: float | None = None
    byte_order: str = ""  # ">" or "<", "" where the label is silent
    record_bytes: int | None = None
    image_offset: int | None = None  # bytes before the image in its file

    @property
    def frames(self) -> int:
        return self.lines // (LINES * len(self.bands))


@dataclass(frozen=True)
class RawImage:
    """``dn`` float32 (frames, bands, 128, 1648), linear 12-bit DN (0..2879 where companded), and its label."""

    label: Label
    dn: np.ndarray


def decompanding_table(mode: str) -> np.ndarray:
    """Linear DN of every 8-bit code, float32 (256,).

    SQROOT is the piecewise linear inverse of the 12 to 8 bit square-root companding; LIN1, LIN8 and LIN16
    multiply. Raises DataError for any other mode.

    >>> decompanding_table("SQROOT")[[0, 23, 43, 255]].tolist()
    [0.0, 23.0, 63.0, 2879.0]
    """
    if mode == "SQROOT":
        steps = np.repeat([step for _, step in _SQROOT], [count for count, _ in _SQROOT])
        return np.concatenate([[0], np.cumsum(steps)]).astype(np.float32)
    if mode in _LINEAR:
        return np.arange(256, dtype=np.float32) * _LINEAR[mode]
    raise DataError(f"SAMPLE_BIT_MODE_ID {mode!r} is not known; known: {', '.join(MODES)}")


# ------------------------------------------------------------------------------------------------ labels


def read_label(path: Path | str) -> Label:
    """The label of an image: a metadata JSON, a PDS3 label (.LBL), or an IMG with an attached label.

    Raises DataError naming the file and the key when something is missing or cannot be.
    """
    path = Path(path)
    try:
        head = path.read_bytes() if path.suffix.lower() != ".img" else _head(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    text = head.decode("latin-1")
    if path.suffix.lower() == ".json":
        try:
            keys = json.loads(text)
        except ValueError as error:
            raise DataError(f"{path} is not JSON: {error}") from error
        if not isinstance(keys, dict):
            raise DataError(f"{path} is not the metadata of one image: an object of keys is expected")
    else:
        keys = pds3.parse(text, path)
    return _label(keys, path)


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(1 << 16)


def find_label(image: Path) -> Path:
    """The label that belongs to an image file: the PDS3 label of the same name, else the JSON whose FILE_NAME is
    the image's; beside it, or as the mission's downloads unpack: in the ``DataSet`` beside its ``ImageSet``
    (``6742-DataSet`` of ``6742-ImageSet``). Raises DataError when there is none."""
    folders = [image.parent, *_data_sets(image.parent)]
    for folder in folders:
        for suffix in (".LBL", ".lbl", ".json", ".JSON"):
            if (beside := folder / image.with_suffix(suffix).name).is_file():
                return beside
    for candidate in (c for folder in folders for c in sorted(folder.glob("*.json"))):
        try:
            keys = json.loads(candidate.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(keys, dict) and keys.get("FILE_NAME") == image.name:
            return candidate
    if image.suffix.lower() == ".img" and b"PDS_VERSION_ID" in _head(image)[:512]:
        return image
    also = "".join(f", nor in {folder}" for folder in folders[1:])
    raise DataError(
        f"{image} has no label beside it{also}: expected {image.with_suffix('.LBL').name}, or a metadata JSON "
        f"whose FILE_NAME is {image.name!r}. Name one with --label."
    )


def _data_sets(folder: Path) -> list[Path]:
    """Where a download keeps the metadata of a folder's images."""
    here = folder.resolve()
    wanted = here.name.lower().replace("imageset", "dataset")
    if wanted == here.name.lower():
        return []
    return sorted(p for p in here.parent.iterdir() if p.is_dir() and p.name.lower() == wanted)


_SECONDS = {"S": 1.0, "SECOND": 1.0, "SECONDS": 1.0, "MS": 1e-3, "MILLISECOND": 1e-3, "MILLISECONDS": 1e-3}
_KM = {"KM": 1.0, "KILOMETER": 1.0, "KILOMETERS": 1.0, "M": 1e-3, "AU": 149597870.7}
_DEGREES = {"DEG": 1.0, "DEGREE": 1.0, "DEGREES": 1.0}
_UNITLESS: Mapping[str, float] = {}
_SILENT = ("", "N/A", "UNK", "NULL", "NONE")  # what labels say where they say nothing

# of 16-bit samples: the order of their bytes
_ORDER = {"MSB": ">", "SUN": ">", "MAC": ">", "UNSIGNED": ">", "LSB": "<", "PC": "<", "VAX": "<"}


def _silent(raw: Any) -> bool:
    if isinstance(raw, list):
        return all(map(_silent, raw))
    return raw is None or re.sub(r"<[^>]*>", "", str(raw)).strip("\"' ").upper() in _SILENT


def _label(keys: dict[str, Any], path: Path) -> Label:
    def get(key: str) -> Any:
        raw = keys.get(key)
        if _silent(raw):
            raise DataError(f"{path} has no {key}" + ("" if raw in (None, "", []) else f", but {raw!r}"))
        return raw

    def number(key: str, unit: str = "", units: Mapping[str, float] = _UNITLESS) -> float:
        """In ``unit``, which is also meant where the label gives none."""
        raw = get(key)
        found = re.fullmatch(r"\s*([^<>]*?)\s*(?:<\s*([^<>]*?)\s*>)?\s*", str(raw))
        try:
            value = float(found[1]) if found else math.nan
        except ValueError:
            value = math.nan
        if not found or not math.isfinite(value):
            raise DataError(f"{path}: {key} is {raw!r}, which is no number")
        told = (found[2] or unit).upper()
        if told and told not in units:
            known = ", ".join(f"<{u.lower()}>" for u in units) or "none"
            raise DataError(f"{path}: {key} is {raw!r}, in a unit that is not known for it; known: {known}")
        return value * (units[told] / units[unit.upper()]) if told else value

    def whole(key: str) -> int:
        if not (value := number(key)).is_integer():
            raise DataError(f"{path}: {key} is {keys[key]!r}, which is no whole number")
        return int(value)

    def if_told(key: str, read: Callable[..., Any], *unit: Any) -> Any:
        return None if _silent(keys.get(key)) else read(key, *unit)

    filters = get("FILTER_NAME")
    names = [filters] if isinstance(filters, str) else filters
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: FILTER_NAME is {filters!r}; names of filters are expected")
    bands = tuple(name.lower() for name in names)
    if unknown := [name for name in bands if name not in BANDS]:
        raise DataError(f"{path}: FILTER_NAME {unknown[0].upper()!r} is not known; known: {', '.join(BANDS)}")
    if len(set(bands)) < len(bands):
        raise DataError(f"{path}: FILTER_NAME has a filter twice: {', '.join(bands)}")
    if (if_told("SAMPLING_FACTOR", number) or 1) != 1:
        raise DataError(f"{path}: SAMPLING_FACTOR {keys['SAMPLING_FACTOR']}: summed images are not supported")
    for key in ("LINE_PREFIX_BYTES", "LINE_SUFFIX_BYTES"):
        if if_told(key, number):
            raise DataError(
                f"{path}: {key} {keys[key]}: bytes beside the samples of a line are not supported"
            )
    mode = str(get("SAMPLE_BIT_MODE_ID")).upper()
    if mode not in MODES:
        raise DataError(
            f"{path}: SAMPLE_BIT_MODE_ID {mode!r} is not known; known: {', '.join(MODES)}. Without the right "
            f"table the brightness would be wrong."
        )
    kind = "" if _silent(keys.get("SAMPLE_TYPE")) else str(keys["SAMPLE_TYPE"]).upper()
    if kind and not ("UNSIGNED" in kind and kind.split("_")[0] in _ORDER):
        raise DataError(f"{path}: SAMPLE_TYPE {kind!r}; unsigned integers are supported")
    pj, phase = (re.search(r"\d+", str(keys.get(key))) for key in ("PJ", "MISSION_PHASE_NAME"))
    label = Label(
        product=str(get("PRODUCT_ID")),
        start_utc=str(get("START_TIME")),
        interframe_s=number("INTERFRAME_DELAY", "s", _SECONDS),
        exposure_ms=number("EXPOSURE_DURATION", "ms", _SECONDS),
        bands=bands,
        lines=whole("LINES"),
        samples=whole("LINE_SAMPLES"),
        bits=whole("SAMPLE_BITS"),
        mode=mode,
        source=str(path),
        perijove=int(found.group()) if (found := pj or phase) else None,
        altitude_km=if_told("SPACECRAFT_ALTITUDE", number, "km", _KM),
        latitude=if_told("SUB_SPACECRAFT_LATITUDE", number, "deg", _DEGREES),
        longitude=if_told("SUB_SPACECRAFT_LONGITUDE", number, "deg", _DEGREES),
        solar_distance_km=if_told("SOLAR_DISTANCE", number, "km", _KM),
        byte_order=_ORDER[kind.split("_")[0]] if kind else "",
        record_bytes=if_told("RECORD_BYTES", whole),
    )
    if label.samples != SAMPLES:
        raise DataError(f"{path}: LINE_SAMPLES is {label.samples}; a JunoCam line has {SAMPLES}")
    if label.lines <= 0 or label.lines % (LINES * len(bands)):
        raise DataError(
            f"{path}: LINES {label.lines} is no whole number of frames of {len(bands)} filters × {LINES} lines"
        )
    if label.bits not in (8, 16):
        raise DataError(f"{path}: SAMPLE_BITS {label.bits}; 8 and 16 are supported")
    for name, value in (("INTERFRAME_DELAY", label.interframe_s), ("EXPOSURE_DURATION", label.exposure_ms)):
        if value <= 0:
            raise DataError(f"{path}: {name} is {value:g}; it must be positive")
    return replace(label, image_offset=_offset(keys.get("^IMAGE"), label))


def _offset(pointer: Any, label: Label) -> int | None:
    """Bytes before the image in its file: ^IMAGE is the number (from 1) of a record or a byte, alone or beside the
    name of a file. None where it is such a name alone, or nothing."""
    last = str(pointer[-1] if isinstance(pointer, list) and pointer else pointer)
    found = re.fullmatch(r"(\d+)\s*(<BYTES>)?", last.strip(), re.IGNORECASE)
    if not found:
        return None
    before = int(found[1]) - 1
    if found[2] or not before:
        return before
    if not label.record_bytes:
        raise DataError(f"{label.source} has no RECORD_BYTES, so record {last} cannot be found")
    return before * label.record_bytes


# ------------------------------------------------------------------------------------------------ images


def read_image(path: Path | str, label: Path | str | None = None) -> RawImage:
    """Read one raw image, PNG or IMG, with its label (searched beside it when not given).

    8-bit samples are decompanded by the label's SAMPLE_BIT_MODE_ID; 16-bit samples are linear already.
    Raises DataError when the file is truncated, or the label disagrees with it in size or filters.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    about = read_label(find_label(path) if label is None else label)
    codes = _read_img(path, about) if path.suffix.lower() == ".img" else _read_picture(path, about)
    if codes.shape != (about.lines, about.samples):
        raise DataError(
            f"{path} is {codes.shape[1]} × {codes.shape[0]}, its label {about.source} says {about.samples} × "
            f"{about.lines} ({about.frames} frames of {', '.join(about.bands)}): is it another image's label?"
        )
    stem = re.match(r"JNC[ER]_\d{7}_\w{8}", path.name)
    if stem and not about.product.startswith(stem.group()):
        raise DataError(f"{path} and its label disagree: {about.source} is the label of {about.product}")
    dn = decompanding_table(about.mode)[codes] if codes.dtype == np.uint8 else codes.astype(np.float32)
    return RawImage(about, dn.reshape(about.frames, len(about.bands), LINES, SAMPLES))


def _read_picture(path: Path, label: Label) -> np.ndarray:
    """Samples of a picture, in the type its label tells: 8-bit codes are also kept in pictures of 16 bits."""
    pixels = _open_picture(path)
    if pixels.mode not in ("L", "I;16", "I;16B", "I"):
        raise DataError(
            f"{path} has mode {pixels.mode}; a raw image has one grey channel (is it a processed one?)"
        )
    array = np.asarray(pixels)
    if array.dtype == np.uint8 and label.bits == 8:
        return array
    told = f"its label {label.source} says SAMPLE_BITS {label.bits}"
    if array.dtype == np.uint8:
        raise DataError(f"{path} has samples of 8 bits, {told}")
    if label.bits == 8:  # as they are, or spread over the 16 bits by a factor
        factor = next((f for f in (1, 257, 256) if array.max() <= 255 * f and not (array % f).any()), 0)
        if not factor or array.min() < 0:
            raise DataError(f"{path} has samples up to {array.max()}, {told}: are they linear already?")
        return (array // factor).astype(np.uint8)
    if not 0 <= array.min() <= array.max() <= 65535:
        raise DataError(f"{path} has samples from {array.min()} to {array.max()}, {told}")
    return array.astype(np.uint16)


def _open_picture(path: Path) -> Any:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            picture.load()
            return picture.copy()
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} cannot be read as an image, perhaps it is truncated: {error}") from error


def _read_img(path: Path, label: Label) -> np.ndarray:
    if label.bits == 16 and not label.byte_order:
        raise DataError(f"{label.source} has no SAMPLE_TYPE, so the order of a sample's bytes is not known")
    if label.image_offset is None and path.samefile(label.source):
        raise DataError(f"{path} has no ^IMAGE, so where the image begins after its label is not known")
    kind = np.dtype(np.uint8 if label.bits == 8 else f"{label.byte_order}u2")
    offset = label.image_offset or 0
    need = label.lines * label.samples * kind.itemsize
    size = path.stat().st_size - offset
    if not need <= size < need + (label.record_bytes or 1):  # the last record may be filled up
        what = "is truncated or its label disagrees" if size < need else "is longer than its label says"
        raise DataError(
            f"{path} {what}: {size} bytes of image, but {label.source} says {label.samples} × {label.lines} "
            f"samples of {label.bits} bits = {need} bytes"
        )
    codes = np.fromfile(path, dtype=kind, count=label.lines * label.samples, offset=offset)
    return codes.astype(kind.newbyteorder("="), copy=False).reshape(label.lines, label.samples)


# ------------------------------------------------------------------------------------------- calibration


def read_flat(path: Path | str, bands: tuple[str, ...]) -> np.ndarray:
    """Flat field of the named bands, float32 (bands, 128, 1648), 1 at each band's median.

    The file is one frame, 384 × 1648: blue, green, red; or 128 × 1648 for one band. Raises DataError when it
    has another shape.
    """
    flat = _per_band(Path(path), bands).astype(np.float32)
    middle = np.median(flat[..., FIRST:LAST], axis=(1, 2), keepdims=True)
    if not (np.isfinite(flat).all() and (middle > 0).all()):
        raise DataError(f"{path} holds no positive flat field")
    return flat / middle


def read_bad_pixels(path: Path | str, bands: tuple[str, ...]) -> np.ndarray:
    """Bad-pixel mask, bool (bands, 128, 1648), True where bad; the file is 0 where bad, in a flat field's
    layout."""
    return _per_band(Path(path), bands) == 0


def _per_band(path: Path, bands: tuple[str, ...]) -> np.ndarray:
    array = np.asarray(_open_picture(path))
    if array.shape == (LINES, SAMPLES) and len(bands) == 1:
        return array[None]
    if array.shape != (3 * LINES, SAMPLES):
        raise DataError(
            f"{path} is {array.shape[1] if array.ndim > 1 else 0} × {array.shape[0]}; one frame of blue, green "
            f"and red, {SAMPLES} × {3 * LINES}, is expected"
        )
    if unknown := [b for b in bands if b not in BANDS[:3]]:
        raise DataError(f"{path} has no {unknown[0]} band")
    return array.reshape(3, LINES, SAMPLES)[[BANDS.index(b) for b in bands]]


def calibrate(image: RawImage, flat: np.ndarray | None = None, bad: np.ndarray | None = None) -> np.ndarray:
    """Relative reflectance, float32 (frames, bands, 128, 1648): linear DN per millisecond of exposure (the
    label's EXPOSURE_DURATION is that of all TDI stages together), over the flat field, brought to 5.2 AU from
    the Sun where the label gives the distance.

    Bad pixels take the mean of the good ones near them, in proportion to a small Gaussian; columns outside
    the photoactive ones are zero.
    """
    label = image.label
    scale = 1 / label.exposure_ms
    if label.solar_distance_km:
        scale *= (label.solar_distance_km / (5.2 * 149597870.7)) ** 2
    values = image.dn * np.float32(scale)
    if flat is not None:
        values /= np.maximum(flat, 0.05)  # dark columns of a flat are near zero
    if bad is not None and bad.any():
        _fill(values, bad)
    values[..., :FIRST] = 0
    values[..., LAST:] = 0
    return values


def _fill(values: np.ndarray, bad: np.ndarray) -> None:
    """In place: each bad pixel becomes the weighted mean of the good ones within 4 pixels in its framelet."""
    for band, line, sample in np.argwhere(bad):
        rows = slice(max(line - 4, 0), line + 5)
        columns = slice(max(sample - 4, FIRST), min(sample + 5, LAST))
        y, x = np.mgrid[rows.start : min(rows.stop, LINES), columns]
        weight = np.exp(-((y - line) ** 2 + (x - sample) ** 2) / 2.0) * ~bad[band, rows, columns]
        if weight.sum() > 0:
            values[:, band, line, sample] = (values[:, band, rows, columns] * weight).sum(
                (1, 2)
            ) / weight.sum()
