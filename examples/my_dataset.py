"""My dataset: a dataset, in a file of its own.

bench check --plugin my_dataset.py
bench run --plugin my_dataset.py --method gsa --dataset my-dataset
"""

import hashlib
from pathlib import Path

import torch

import pansharp_bench as pb
from pansharp_bench.imaging import interp23, wald_degrade
from pansharp_bench.scene import Dataset, FileIdentity, Scene, Split, as_sensor

# Number of scenes of every split and their side in PAN pixels. "train" and "valid" are for methods that learn;
# "reduced" has a reference (gt), "full" has none.
SIZES = {"train": (16, 64), "valid": (4, 64), "reduced": (6, 128), "full": (6, 128)}


class _Split(Split):
    def __init__(self, name, sensor):
        self.name, self.sensor = name, sensor
        self.keys = ("pan", "ms", "lms") if name == "full" else ("pan", "ms", "lms", "gt")
        # Read your files here (rasterio, h5py, numpy): float32 digital numbers, (N, C, H, W). This one makes up
        # smooth scenes instead, so that it runs as it is.
        n, side = SIZES[name]
        generator = torch.Generator().manual_seed(len(name))
        coarse = torch.rand(n, sensor.channels, side // 8, side // 8, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0.05, 1)
        truth = 0.5 * sensor.peak * smooth
        pan = truth.mean(1, keepdim=True)
        ms = wald_degrade(truth, pan, sensor).ms  # as the sensor's MTF and the coarser grid would have it
        gt = truth if "gt" in self.keys else None
        self._scenes = Scene(sensor, pan=pan, ms=ms, lms=interp23(ms, sensor.ratio), gt=gt)

    def __len__(self):
        return len(self._scenes)

    def __getitem__(self, index):
        return self._scenes[index]  # an int gives a batch of one


@pb.register_dataset("my-dataset", title="My dataset", sensor="qb", simulated=True)
class MyDataset(Dataset):
    """Smooth scenes that were made up."""

    def __init__(self, root=None, label=None):
        # root: --data DIR or PANSHARP_DATA; label: --label NAME, of files that are not the known originals
        self.sensor = as_sensor("qb")
        self.name = "my-dataset" + (f"-{label}" if label else "")

    def available(self):
        return tuple(SIZES)

    def split(self, name):
        return _Split(name, self.sensor)

    def files(self, *splits):
        # The SHA-256 of what is behind each split: records hold it, and tables never mix what differs in it. Of a
        # file: pansharp_bench.files.sha256_of(path).
        made = Path(__file__)
        sha256 = hashlib.sha256(made.read_bytes()).hexdigest()
        return tuple(FileIdentity(s, made, made.stat().st_size, sha256, None) for s in splits or SIZES)

    def provenance(self):
        return {"made_by": "bicubic interpolation of random numbers"}  # for the record
