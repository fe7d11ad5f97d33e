"""A task of its own: undo a blur, scored against the sharp image. A track, its protocol, a dataset and a method.

bench run --plugin examples/my_track.py --method my-sharpen --dataset my-blurred
bench leaderboard --plugin examples/my_track.py --dataset my-blurred
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import torch

import pansharp_bench as pb
from pansharp_bench.protocol import Protocol, Track
from pansharp_bench.registry import TRACKS
from pansharp_bench.scene import Dataset, FileIdentity, Scene, Split, as_sensor

# What a scene starts from is always called `pan`; here it holds the blurred bands, as `source` says.
SENSOR = replace(as_sensor("qb"), name="my-camera", ratio=1, source=as_sensor("qb").bands)


def against_the_sharp_image(fused, scene):
    """What metrics of this protocol may ask for, by name; sensor, ratio and peak are added."""
    return {"fused": fused, "reference": scene.gt}


# Name, title, the split it reads, whose metrics it computes (those with protocol="reduced" on their card).
SHARP = Protocol(
    "sharp", "Against the sharp image", "test", "reduced", against_the_sharp_image, needs_gt=True
)

# Its protocols, what a method starts from in words, the headings of tables by what methods see.
TRACKS.add(
    Track((SHARP,), "source", {"pan": "From the blurred image", "reference": "Bounds (not ranked)"}, ""),
    name="deblurring",
    title="Deblurring",
    summary="undo a known blur",
    protocols=("sharp",),
)


class _Split(Split):
    name, sensor, keys = "test", SENSOR, ("pan", "gt")

    def __init__(self):
        noise = torch.rand(6, SENSOR.channels, 8, 8, generator=torch.Generator().manual_seed(0))
        self._gt = 1000 * torch.nn.functional.interpolate(noise, (64, 64), mode="bilinear") + 200

    def __len__(self):
        return len(self._gt)

    def __getitem__(self, index):
        gt = self._gt[index : index + 1] if isinstance(index, int) else self._gt[index]
        return Scene(SENSOR, pan=torch.nn.functional.avg_pool2d(gt, 5, 1, 2, count_include_pad=False), gt=gt)


@pb.register_dataset("my-blurred", title="Blurred", tracks=("deblurring",), simulated=True)
class MyBlurred(Dataset):
    """Smooth images under a blur of five pixels."""

    def __init__(self, root=None, label=None):
        self.name, self.sensor = "my-blurred", SENSOR

    def available(self):
        return ("test",)

    def split(self, name):
        return _Split()

    def files(self, *splits):
        made = Path(__file__)
        sha256 = hashlib.sha256(made.read_bytes()).hexdigest()
        return (FileIdentity("test", made, made.stat().st_size, sha256, None),)

    def provenance(self):
        return {"blur": 5}


@pb.register_method("my-sharpen", title="Unsharp mask", kind="classical", sees="pan", tracks=("deblurring",))
def my_sharpen(pan):
    """The image and the detail that the blur would take away from it once more."""
    return 2 * pan - torch.nn.functional.avg_pool2d(pan, 5, 1, 2, count_include_pad=False)


@pb.register_method("my-blur", title="As it is", kind="untouched", sees="pan", tracks=("deblurring",))
def my_blur(pan):
    """The blurred image itself."""
    return pan.clone()
