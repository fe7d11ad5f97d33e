"""Files from the internet: each is refused with one message that says what is wrong, before any allocation."""

import multiprocessing
import os
import pickle
import re
import tracemalloc

import h5py
import numpy as np
import pytest
import torch
from h5files import noise, write

from pansharp_bench.datasets._h5 import H5Split
from pansharp_bench.errors import DataError
from pansharp_bench.scene import as_sensor


def opened(path, split="train", sensor="qb"):
    return H5Split(path, split, as_sensor(sensor))


def refusal(path, split="train", sensor="qb") -> str:
    with pytest.raises(DataError) as caught:
        opened(path, split, sensor)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "train_qb.h5"


# What is not HDF5 at all


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title>", "web page"),
        (b"\n <html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "Git LFS pointer"),
        (b"MATLAB 5.0 MAT-file, Platform: GLNXA64", ".mat"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"\x1f\x8b\x08rest", "archive"),
        (bytes(4096), "zeros"),
        (b"something else entirely", "begins with"),
    ],
)
def test_not_hdf5(path, content, said):
    path.write_bytes(content)
    assert said in refusal(path) and "expected an HDF5 file" in refusal(path)


def test_folder(path):
    path.mkdir()
    assert "found a folder" in refusal(path)


def test_what_would_wait_for_a_writer_is_not_opened(path):
    os.mkfifo(path)
    assert "not a plain file" in refusal(path)


def test_absent_and_dead_link(path):
    assert "No such file" in refusal(path)
    path.symlink_to("nowhere.h5")
    assert "a link to nothing" in refusal(path)


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.99])
def test_truncated(path, kept):
    write(path, noise())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert "truncated" in refusal(path) and "download it again" in refusal(path)


def test_damaged_in_the_middle(path):
    """Overwritten structure is refused on opening, overwritten compressed values on reading; neither crashes."""
    write(path, noise(n=4), chunks=(1, 1, 4, 4), compression="gzip")
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : -len(content) // 3] = b"\xa5" * len(
        content[len(content) // 3 : -len(content) // 3]
    )
    path.write_bytes(content)
    with pytest.raises(DataError, match=str(path)):
        _ = opened(path)[:]


@pytest.mark.parametrize("options", [{}, {"chunks": (1, 1, 4, 4), "compression": "gzip", "fletcher32": True}])
def test_random_damage_is_read_or_refused_and_never_worse(path, options):
    good = write(path, noise(), **options).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        content = bytearray(good)
        for at in rng.integers(0, 4000, rng.integers(1, 9)):
            content[at] = rng.integers(256)
        path.write_bytes(content)
        try:
            assert torch.isfinite(opened(path)[:].gt).all()
        except DataError as error:
            assert str(path) in str(error)
            refused += 1
    assert 10 < refused < 100


# Keys that are not plain data


@pytest.mark.parametrize("key", ["pan", "ms", "lms", "gt"])
def test_missing_key(path, key):
    arrays = noise()
    arrays["other"] = arrays.pop(key)
    message = refusal(write(path, arrays))
    assert repr(key) in message and "no such key" in message and "other" in message


def test_full_needs_no_gt_but_takes_it(path):
    assert opened(write(path, noise(full=True)), "full").keys == ("pan", "ms", "lms")
    with_truth = opened(write(path, noise()), "full")
    assert with_truth.keys == ("pan", "ms", "lms", "gt") and with_truth[0].gt.shape == (1, 4, 16, 16)


def test_truth_of_full_must_fit_too(path):
    arrays = noise()
    arrays["gt"] = arrays["gt"][..., :8, :8]
    assert "'gt'" in refusal(write(path, arrays), "full")


def test_external_link(path, tmp_path):
    secret = write(tmp_path / "secret.h5", noise())
    arrays = noise()
    del arrays["gt"]
    write(path, arrays)
    with h5py.File(path, "a") as file:
        file["gt"] = h5py.ExternalLink(str(secret), "gt")
    message = refusal(path)
    assert "'gt'" in message and "link into another file" in message and "secret.h5" in message
    assert "link into another file" in refusal(path, "full")  # an optional key is no way in either


def test_soft_link(path):
    arrays = noise()
    arrays["elsewhere"] = arrays.pop("pan")
    write(path, arrays)
    with h5py.File(path, "a") as file:
        file["pan"] = h5py.SoftLink("/elsewhere")
    assert "soft link to /elsewhere" in refusal(path)


def test_virtual_dataset(path, tmp_path):
    source = write(tmp_path / "source.h5", noise())
    arrays = noise()
    shape = arrays.pop("gt").shape
    write(path, arrays)
    layout = h5py.VirtualLayout(shape, "f8")
    layout[:] = h5py.VirtualSource(source, "gt", shape)
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("gt", layout)
    assert "virtual dataset" in refusal(path)


def test_external_storage(path, tmp_path):
    arrays = noise()
    values = arrays.pop("gt")
    (tmp_path / "raw.bin").write_bytes(values.tobytes())
    write(path, arrays)
    with h5py.File(path, "a") as file:
        file.create_dataset(
            "gt", values.shape, "f8", external=[(str(tmp_path / "raw.bin"), 0, values.nbytes)]
        )
    assert "external storage" in refusal(path)


def test_group(path):
    arrays = noise()
    del arrays["ms"]
    write(path, arrays)
    with h5py.File(path, "a") as file:
        file.create_group("ms")
    assert "found a group" in refusal(path)


def test_named_type(path):
    arrays = noise()
    del arrays["ms"]
    write(path, arrays)
    with h5py.File(path, "a") as file:
        file["ms"] = np.dtype("f8")
    assert "'ms'" in refusal(path)


@pytest.mark.parametrize(
    ("dtype", "said"), [(h5py.string_dtype(), "string"), (np.complex64, "complex64"), (np.bool_, "bool")]
)
def test_type(path, dtype, said):
    arrays = noise()
    shape = arrays.pop("pan").shape
    write(path, arrays)
    with h5py.File(path, "a") as file:
        file.create_dataset("pan", shape, dtype, data=np.zeros(shape, "S1" if said == "string" else dtype))
    message = refusal(path)
    assert "'pan'" in message and said in message and "float64" in message


def test_compound_type(path):
    arrays = noise()
    shape = arrays.pop("pan").shape
    write(path, arrays)
    with h5py.File(path, "a") as file:
        file.create_dataset("pan", data=np.zeros(shape, [("a", "f8"), ("b", "f8")]))
    assert "'pan'" in refusal(path)


# Shapes


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        ("gt", lambda x: x.transpose(0, 2, 3, 1), "N,H,W,C"),
        ("pan", lambda x: x.transpose(0, 2, 3, 1), "N,H,W,C"),
        ("gt", lambda x: x.transpose(2, 3, 1, 0), "H,W,C,N"),
        ("pan", lambda x: x[:, 0], "four axes"),
        ("lms", lambda x: x[0, 0, 0, 0], "four axes"),
        ("gt", lambda x: x[:0], "none of them empty"),
        ("ms", lambda x: x[:, :3], "3 bands"),
        ("gt", lambda x: np.concatenate([x, x], 1), "8 bands"),
        ("pan", lambda x: x.repeat(4, 1), "4 bands"),
        ("ms", lambda x: x.repeat(2, 2).repeat(2, 3), "ratio 4"),
        ("lms", lambda x: x[..., :8, :8], "size 8x8"),
        ("gt", lambda x: x[..., :12], "size 16x12"),
        ("lms", lambda x: x[:1], "1 samples"),
    ],
)
def test_shape(path, key, change, said):
    arrays = noise(n=3)
    arrays[key] = np.ascontiguousarray(change(arrays[key]))
    message = refusal(write(path, arrays))
    assert repr(key) in message and said in message and "expected" in message


def test_wrong_axes_everywhere(path):
    arrays = {k: np.ascontiguousarray(v.transpose(0, 2, 3, 1)) for k, v in noise().items()}
    assert "N,H,W,C" in refusal(write(path, arrays))


def test_bands_of_another_sensor(path):
    message = refusal(write(path, noise("wv3")))
    assert "8 bands (as wv2, wv3 have)" in message and "4 bands for sensor qb" in message
    assert "4 bands (as " in refusal(write(path, noise("qb")), sensor="wv3")


def test_pan_not_a_multiple_of_the_ratio(path):
    arrays = {k: v[..., :15, :15] if k != "ms" else v for k, v in noise().items()}
    assert "multiple of the ratio 4" in refusal(write(path, arrays))


def test_no_dataspace(path):
    arrays = noise()
    del arrays["gt"]
    write(path, arrays)
    with h5py.File(path, "a") as file:
        file["gt"] = h5py.Empty("f8")
    assert "no data" in refusal(path)


# Sizes that the file cannot hold


@pytest.mark.parametrize("chunked", [True, False])
def test_huge_declared_shape(path, chunked):
    """10^12 elements in a file of a few KiB: the rest would be fill value."""
    with h5py.File(path, "w") as file:
        for key, (c, s) in {"gt": (4, 500), "lms": (4, 500), "ms": (4, 125), "pan": (1, 500)}.items():
            file.create_dataset(key, (1_000_000, c, s, s), "f8", chunks=(1, 1, 100, 100) if chunked else None)
    tracemalloc.start()
    message = refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert re.search(r"\(1000000, 1, 500, 500\) \(.* TiB\) in a file of .* KiB", message)


def test_fill_value_only(path):
    with h5py.File(path, "w") as file:
        for key, value in noise().items():
            file.create_dataset(key, value.shape, "f8", fillvalue=7)
    assert "0 B stored" in refusal(path)


def test_interrupted_writing(path):
    with h5py.File(path, "w") as file:
        for key, value in noise(n=4).items():
            stored = file.create_dataset(key, value.shape, "f8", chunks=(1, *value.shape[1:]))
            stored[:3] = value[:3]
    assert "3 of 4 chunks" in refusal(path)


def test_compression_bomb(path):
    """Zeros compress a thousandfold; imagery does not."""
    arrays = noise()
    del arrays["gt"]
    write(path, arrays)
    with h5py.File(path, "a") as file:
        file["padding"] = np.random.default_rng(0).random(1 << 18)
        file.create_dataset("gt", data=np.zeros((3000, 4, 64, 64), "u2"), chunks=True, compression="gzip")
    message = refusal(path)
    assert "'gt'" in message and "KiB stored" in message


def test_oversized_chunk(path):
    with h5py.File(path, "w") as file:
        for key, value in noise().items():
            chunk, room = (64, 4, 512, 512), (None,) * 4
            big = {"chunks": chunk, "maxshape": room, "compression": "gzip"} if key == "gt" else {}
            file.create_dataset(key, value.shape, "f8", **big)
            if key != "gt":
                file[key][:] = value
        file["gt"].id.write_direct_chunk((0, 0, 0, 0), bytes(1 << 16))
    assert "chunks of 512 MiB" in refusal(path)


# Values


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_names_the_sample(path, value):
    arrays = noise(n=5)
    arrays["ms"][3, 1, 2, 2] = value
    split = opened(write(path, arrays))
    assert split[:3].ms.shape == (3, 4, 4, 4)
    for index in (3, slice(2, None), slice(None, None, -1), slice(1, 5, 2)):
        with pytest.raises(DataError, match=r"'ms'.*sample 3") as caught:
            split[index]
        assert str(path) in str(caught.value) and str(value) in str(caught.value)
    assert split.read("pan", slice(None)).shape[0] == 5  # the other keys can still be read


def test_a_chunk_that_cannot_be_unpacked(path):
    write(path, noise(), chunks=True, compression="gzip")
    with h5py.File(path, "a") as file:
        file["gt"].id.write_direct_chunk((0, 0, 0, 0), b"no gzip at all")
    split = opened(path)
    with pytest.raises(DataError, match=r"'gt': found samples 0 to 1 cannot be read \(.*download it again"):
        split[:]
    assert split.read("pan", slice(None)).shape[0] == 2


def test_too_large_for_float32(path):
    arrays = noise()
    arrays["pan"][1] = 1e300
    with pytest.raises(DataError, match="sample 1"):
        _ = opened(write(path, arrays))[1]


def test_values_are_never_clipped_or_refused(path):
    arrays = noise()
    arrays["lms"][0, 0, 0, :3] = -223.25, 2324.5, 65000
    split = opened(write(path, arrays))
    assert split[0].lms[0, 0, 0, :3].tolist() == [-223.25, 2324.5, 65000]


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", ">f4", "<f2", "u2", ">u2", "i2", "i4", "u1"])
def test_number_types(path, dtype):
    arrays = {k: (v % 200).astype(dtype) for k, v in noise().items()}
    scene = opened(write(path, arrays))[:]
    for key, value in arrays.items():
        got = getattr(scene, key)
        assert got.dtype == torch.float32 and got.device.type == "cpu"
        assert torch.equal(got, torch.from_numpy(value.astype("f4").astype("=f4")))


# Reading


@pytest.mark.parametrize("options", [{}, {"chunks": True, "compression": "gzip", "shuffle": True}])
def test_indexing(path, options):
    arrays = noise(n=7)
    split = opened(write(path, arrays, **options))
    assert len(split) == 7 and len(list(split)) == 7
    for index in (0, 6, -1, -7, np.int64(2)):
        assert torch.equal(split[index].gt, torch.from_numpy(arrays["gt"][[index]]).float())
    for part in (np.s_[:], np.s_[2:5], np.s_[::-1], np.s_[1:6:2], np.s_[5:0:-3], np.s_[4:4], np.s_[-2:]):
        scene = split[part]
        for key, value in arrays.items():
            assert torch.equal(getattr(scene, key), torch.from_numpy(value[part].copy()).float())
    for index in (7, -8):
        with pytest.raises(IndexError):
            split[index]


def test_pickles_without_its_handle(path):
    split = opened(write(path, noise()))
    before = split[0]
    again = pickle.loads(pickle.dumps(split))
    assert torch.equal(again[0].gt, before.gt) and torch.equal(split[0].gt, before.gt)


def test_file_replaced_under_a_running_program(path):
    split = opened(write(path, noise()))
    write(path, noise(n=3, seed=1))
    with pytest.raises(DataError, match="changed since it was checked"):
        split[0]


def _checksum(split, index, queue):
    queue.put((index, split[index].gt.double().sum().item()))


def test_workers_read_the_same(path):
    """A handle already open in the parent must not be used by a fork."""
    split = opened(write(path, noise(n=6), chunks=True, compression="gzip"))
    here = {i: split[i].gt.double().sum().item() for i in range(6)}
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_checksum, args=(split, i, queue)) for i in range(6)]
    for worker in workers:
        worker.start()
    there = dict(queue.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert there == here and split[0].gt.double().sum().item() == here[0]


def test_data_loader_workers(path):
    split = opened(write(path, noise(n=6)))
    here = split[:]
    loader = torch.utils.data.DataLoader(
        split, batch_size=2, num_workers=2, collate_fn=lambda scenes: torch.cat([s.gt for s in scenes])
    )
    for _ in range(2):
        assert torch.equal(torch.cat(list(loader)), here.gt)
