"""Metrics of whole sets, against NumPy and SciPy and against cases with a known answer."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch import Tensor

from pansharp_bench import metrics
from pansharp_bench.errors import BenchError
from pansharp_bench.metrics.histograms import COARSE, FINE, MEDIUM, Histograms
from pansharp_bench.metrics.power_spectrum import PowerSpectra
from pansharp_bench.metrics.reflectance import Reflectance
from pansharp_bench.registry import METRICS
from pansharp_bench.scene import Sensor

SENSOR = Sensor("three", "Three bands", ("red", "green", "blue"), 1.0, (1.0,) * 3, 1.0, (0, 1, 2), 1)
ROLES = ("output", "source", "target", "truth")
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
SET_METRICS = [e for e in METRICS.entries(scope="set") if e.origin.startswith("pansharp_bench.metrics.")]


def sets(n: int = 7, m: int = 4, side: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two sets of different colours and sizes, float32, some values outside [0, 1] and some at its ends."""
    g = torch.Generator().manual_seed(seed)
    images = 0.5 + 0.25 * torch.randn(n, 3, side, side, generator=g)
    target = (
        0.4 + 0.1 * torch.randn(m, 3, side, side, generator=g) + torch.tensor([0.1, 0, -0.2]).view(3, 1, 1)
    )
    images[:, :, 0, :4], target[0, :, 0, :2] = torch.tensor([0.0, 1.0, 0.5, 0.25]), torch.tensor([0.0, 1.0])
    return images, target


def channels(x: Tensor) -> list[np.ndarray]:
    return [x[:, c].double().numpy().ravel() for c in range(x.shape[1])]


def shares(values: np.ndarray, bins: int, peak: float = 1) -> np.ndarray:
    return np.histogram(np.clip(values, 0, peak), bins, (0, peak))[0] / values.size


class TestHistograms:
    @pytest.mark.parametrize("device", DEVICES)
    @pytest.mark.parametrize("bins", [7, 31, 256, FINE])
    def test_counts_are_numpys(self, bins, device):
        images, _ = sets()
        ours = metrics.histogram(images.to(device), bins)
        wanted = np.stack([shares(v, bins) for v in channels(images)])
        assert ours.dtype == torch.float64 and ours.device.type == device
        np.testing.assert_array_equal(ours.cpu().numpy(), wanted)

    @pytest.mark.parametrize("bins", [31, 256])
    def test_chi2_is_scipys_statistic_of_a_contingency_table(self, bins):
        """For two samples of n values each, Pearson's statistic is 2 n times our distance."""
        images, target = (x[:4] for x in sets())
        n, wanted = images[:, 0].numel(), []
        for v, w in zip(channels(images), channels(target), strict=True):
            table = np.stack([shares(v, bins), shares(w, bins)]) * n
            statistic = scipy.stats.chi2_contingency(table[:, table.any(0)], correction=False).statistic
            wanted.append(statistic / (2 * n))
        assert metrics.chi2_histogram(images, target, bins).item() == pytest.approx(
            np.mean(wanted), rel=1e-12
        )

    def test_chi2_by_hand(self):
        images = torch.tensor([0.1, 0.1, 0.1, 0.9]).view(1, 1, 2, 2)
        target = torch.tensor([0.1, 0.9, 0.9, 0.9]).view(1, 1, 2, 2)
        # p = (3/4, 1/4), q = (1/4, 3/4): ½ ((1/2)² / 1 + (1/2)² / 1)
        assert metrics.chi2_histogram(images, target, 2).item() == 0.25
        assert metrics.histogram_intersection(images, target, 2).item() == 0.5
        assert metrics.earth_movers_distance(images, target, 2).item() == 0.25

    def test_intersection_is_numpys_minimum(self):
        images, target = sets()
        pairs = zip(channels(images), channels(target), strict=True)
        wanted = np.mean([np.minimum(shares(v, 31), shares(w, 31)).sum() for v, w in pairs])
        assert metrics.histogram_intersection(images, target).item() == pytest.approx(wanted, rel=1e-12)

    def test_earth_movers_distance_is_scipys(self):
        images, target = (x.clamp(0, 1) for x in sets())
        pairs = list(zip(channels(images), channels(target), strict=True))
        wanted = np.mean([scipy.stats.wasserstein_distance(v, w) for v, w in pairs])
        assert abs(metrics.earth_movers_distance(images, target).item() - wanted) < 0.02 / FINE
        binned = np.mean(
            [
                scipy.stats.wasserstein_distance(
                    *[(np.minimum(np.floor(x * 31), 30) + 0.5) / 31 for x in pair]
                )
                for pair in pairs
            ]
        )
        assert metrics.earth_movers_distance(images, target, 31).item() == pytest.approx(binned, rel=1e-10)

    def test_the_fine_bins_make_up_the_coarse_ones_exactly(self):
        """Every 16-bit value, every float32 beside an edge of either division, and the edges themselves."""
        levels = torch.arange(65536, dtype=torch.float64).div(65535).float()
        edges = torch.cat([torch.arange(b + 1, dtype=torch.float64) / b for b in (COARSE, MEDIUM)]).float()
        beside = [torch.nextafter(edges, torch.tensor(to)) for to in (-1.0, 2.0)]
        values = torch.cat([levels, edges, *beside])
        fine = metrics.histogram(values.view(1, 1, 1, -1), FINE)
        for bins in (COARSE, MEDIUM):
            direct = metrics.histogram(values.view(1, 1, 1, -1), bins)
            torch.testing.assert_close(fine.view(1, bins, -1).sum(2), direct, rtol=0, atol=1e-15)
            np.testing.assert_allclose(direct[0], shares(values.double().numpy(), bins), rtol=0, atol=1e-15)

    def test_the_unit_of_the_sensor(self):
        g = torch.Generator().manual_seed(3)
        images, target = (torch.randint(0, 2048, (2, 2, 32, 32), generator=g).float() for _ in range(2))
        target *= 0.7
        wanted = np.stack([shares(v, 31, 2047) for v in channels(target)])
        np.testing.assert_array_equal(metrics.histogram(target, 31, 2047).numpy(), wanted)
        ours = metrics.earth_movers_distance(images, target, peak=2047).item()
        unit = metrics.earth_movers_distance(images / 2047, target / 2047).item()
        assert ours == pytest.approx(2047 * unit, rel=1e-3)

    def test_distances_of_a_set_to_itself_and_symmetry(self):
        images, target = sets()
        for distance, same in (
            (metrics.chi2_histogram, 0),
            (metrics.histogram_intersection, 1),
            (metrics.earth_movers_distance, 0),
        ):
            assert distance(images, images.flip(0)).item() == pytest.approx(same, abs=1e-12)
            assert distance(images, target).item() == pytest.approx(
                distance(target, images).item(), rel=1e-12
            )

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_a_value_that_is_not_finite_shows(self, bad):
        images, target = sets()
        images[1, 2, 3, 4] = bad
        assert metrics.histogram(images).isnan().all(1).tolist() == [False, False, True]
        for distance in (
            metrics.chi2_histogram,
            metrics.histogram_intersection,
            metrics.earth_movers_distance,
        ):
            assert distance(images, target).isnan()
            assert distance(target, images).isnan()

    def test_images_are_left_as_they_were(self):
        images = sets()[0].double()
        before = images.clone()
        metrics.chi2_histogram(images, images)
        assert torch.equal(images, before)

    def test_wrong_shapes_are_named(self):
        images, target = sets()
        with pytest.raises(ValueError, match=r"\(3, 40, 40\)"):
            metrics.histogram(images[0])
        with pytest.raises(ValueError, match="3 channels and target 2"):
            metrics.chi2_histogram(images, target[:, :2])

    def test_the_streaming_class_gives_what_the_functions_give(self):
        images, target = sets()
        metric = Histograms(SENSOR)
        metric.add("output", images)
        metric.add("target", target)
        wanted = (
            metrics.chi2_histogram(images, target),
            metrics.chi2_histogram(images, target, 256),
            metrics.histogram_intersection(images, target),
            metrics.earth_movers_distance(images, target),
        )
        wanted += (wanted[0],) * 2  # without groups all is one group
        assert metric.scores() == pytest.approx([w.item() for w in wanted], rel=1e-12)
        assert metric.floors() == pytest.approx(
            dict(chi2=0, chi2_256=0, intersection=1, emd=0), abs=1e-12
        )  # one group has no mix
        curves = metric.curves()
        np.testing.assert_allclose(curves["histogram"]["output"], metrics.histogram(images), rtol=1e-12)
        assert curves["histogram"]["value"] == pytest.approx([(k + 0.5) / 31 for k in range(31)])
        per_channel = [metrics.chi2_histogram(images[:, [c]], target[:, [c]]).item() for c in range(3)]
        assert curves["histogram_channels"]["chi2"] == pytest.approx(per_channel, rel=1e-12)

    def test_a_match_of_all_does_not_hide_groups_that_are_wrong(self):
        dark, bright = torch.full((2, 3, 8, 8), 0.2), torch.full((2, 3, 8, 8), 0.8)
        metric, groups = Histograms(SENSOR), torch.tensor([4, 4, 7, 7])
        metric.add("target", torch.cat([dark, bright]), groups)
        metric.add("output", torch.cat([bright, dark]), groups)
        chi2, *_, mean, worst = metric.scores()
        assert (chi2, mean, worst) == (0.0, 1.0, 1.0)
        right = Histograms(SENSOR)
        right.add("target", torch.cat([dark, bright]), groups)
        right.add("output", torch.cat([dark, dark]), groups)
        assert right.scores()[-2:] == (0.5, 1.0)
        assert right.curves()["histogram_zones"] == {"group": [4, 7], "chi2": [0.0, 1.0]}
        right.add("target", torch.full((1, 3, 8, 8), math.nan), groups[-1:])
        assert all(map(math.isnan, right.scores()[-2:]))  # whichever group it is

    def test_the_floor_is_the_target_itself_in_the_mix_of_the_source(self):
        images, target = sets(6, 5)
        own, theirs = torch.tensor([0, 0, 0, 0, 0, 1]), torch.tensor([0, 1, 1, 1, 2])
        metric = Histograms(SENSOR)
        metric.add("output", images, own)
        metric.add("target", target, theirs)
        # five of the first for one image of each of the three of the second; nothing of the third
        mixed = torch.cat([target[:1].repeat(15, 1, 1, 1), target[1:4]])
        floors = metric.floors()
        assert floors["chi2"] == pytest.approx(metrics.chi2_histogram(mixed, target).item(), rel=1e-6)
        assert floors["emd"] == pytest.approx(metrics.earth_movers_distance(mixed, target).item(), rel=1e-6)

    def test_the_bound_holds_for_values_at_the_edges_of_their_bins(self):
        """Moved by 2e-4 across the nearest edge, they have the target's very histogram."""
        bins = torch.randint(5, 25, (4, 3, 16, 16), generator=torch.Generator().manual_seed(0)) / 31
        metric = Histograms(SENSOR)
        for role, images in (("source", bins - 1e-4), ("target", bins + 1e-4), ("output", bins + 1e-4)):
            metric.add(role, images)
        bound = metric.curves()["bound"]
        assert metric.scores()[0] == 0 and np.interp(4e-8, bound["mse"], bound["chi2"]) < 1e-9

    @pytest.mark.parametrize("role", ["source", "target"])
    def test_of_values_that_are_not_finite_nothing_is_bound(self, role):
        metric = Histograms(SENSOR)
        for each, images in zip(("source", "target"), sets(), strict=True):
            metric.add(each, images * math.nan if each == role else images)
        assert metric.curves()["bound"] == {}

    def test_no_output_is_nearer_than_the_bound(self):
        images, target = (x.clamp(0, 1) for x in sets())
        ordered = target.transpose(0, 1).flatten(1).sort(1).values
        rank = images.transpose(0, 1).flatten(1).argsort(1).argsort(1)
        at = (rank + 0.5) / rank.shape[1] * ordered.shape[1]
        matched = ordered.gather(1, at.long()).view(3, len(images), *images.shape[2:]).transpose(0, 1)
        near = 0.0
        for share in (0.2, 0.4, 0.6, 0.8, 1.0):
            output = torch.lerp(images, matched, share)
            metric = Histograms(SENSOR)
            for role, x in (("output", output), ("source", images), ("target", target)):
                metric.add(role, x)
            bound, mse = metric.curves()["bound"], (output - images).square().mean().item()
            allowed = np.interp(mse, bound["mse"], bound["chi2"])
            chi2 = metric.scores()[0]
            assert chi2 >= allowed - 1e-12
            near = max(near, allowed / chi2)
        assert near > 0.5  # and it says something


class TestPowerSpectrum:
    @pytest.mark.parametrize("device", DEVICES)
    @pytest.mark.parametrize("size", [(16, 16), (15, 15), (16, 24), (21, 12)])
    def test_is_a_plain_loop(self, size, device):
        """Full transforms, one ring after another."""
        g = torch.Generator().manual_seed(1)
        images = torch.rand(2, 3, *size, generator=g, dtype=torch.float64).cumsum(3)
        (h, w), side, spacing = size, min(size), 62.5
        window = np.outer(*(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n) for n in size))
        total = np.zeros(side // 2)
        for image in images.flatten(0, 1).numpy():
            centred = image - np.average(image, weights=window)
            energy = np.abs(np.fft.fft2(window * centred)) ** 2
            density = spacing**2 * energy / energy.mean()
            for k in range(1, side // 2 + 1):
                ring = [
                    density[i, j]
                    for i in range(h)
                    for j in range(w)
                    if round(side * math.hypot(np.fft.fftfreq(h)[i], np.fft.fftfreq(w)[j])) == k
                ]
                total[k - 1] += np.mean(ring)
        ours = metrics.power_spectrum(images.to(device), spacing)
        assert ours.power.dtype == ours.frequency.dtype == torch.float64 and ours.power.device.type == device
        np.testing.assert_allclose(ours.power.cpu(), total / 6, rtol=1e-10)
        wanted = np.arange(1, side // 2 + 1) / (side * spacing)
        np.testing.assert_allclose(ours.frequency.cpu(), wanted, rtol=1e-12)
        if side % 2 == 0:
            assert ours.frequency[-1].item() == 0.5 / spacing

    def test_white_noise_is_flat(self):
        """Within four standard deviations: ring k has πk independent samples, which the window, alike for all
        images, makes fewer by Σ1 Σw⁴ / (Σw²)² = (35/18)²."""
        noise = torch.randn(60, 3, 64, 64, generator=torch.Generator().manual_seed(2))
        power = metrics.power_spectrum(noise).power
        k = torch.arange(1, 33)
        deviation = (35 / 18) / (180 * math.pi * k).sqrt()
        # the mean takes with it 1 - (1 - 2/3 + 1/4) of the waves along an axis, 1 - (1 - 2/9 + 1/16) of those
        # along a diagonal
        expected = torch.ones(32)
        expected[0] = ((1 - 2 / 3 + 1 / 4) + (1 - 2 / 9 + 1 / 16)) / 2
        assert ((power - expected).abs() < 4 * deviation).all()
        assert (power[1:] * k[1:]).sum() / k[1:].sum() == pytest.approx(1, abs=0.01)

    def test_a_power_law_keeps_its_slope_though_edges_do_not_meet(self):
        """Amplitudes f^-1.5 of a large periodic field make a density f^-3; the images are cut out of it."""
        g = torch.Generator().manual_seed(4)
        f = torch.hypot(torch.fft.fftfreq(1024)[:, None], torch.fft.rfftfreq(1024))
        f[0, 0] = torch.inf
        spectrum = torch.fft.rfft2(torch.randn(1024, 1024, generator=g)) * f**-1.5
        field = torch.fft.irfft2(spectrum, s=(1024, 1024))
        tiles = field.unfold(0, 128, 128).unfold(1, 128, 128).reshape(-1, 1, 128, 128)
        frequency, power = metrics.power_spectrum(tiles)
        slope = np.polyfit(frequency[4:].log(), power[4:].log(), 1)[0]
        assert slope == pytest.approx(-3, abs=0.1)

    @pytest.mark.parametrize("k", [5, 16, 27])
    def test_a_wave_peaks_at_its_frequency_and_all_its_power_is_there(self, k):
        """Parseval: the samples of the rings times their power make up the whole plane."""
        i = torch.arange(64.0)
        wave = 0.4 + 0.1 * torch.cos(2 * math.pi * k / 64 * i + 0.3)
        for image in (wave.expand(64, 64), wave[:, None].expand(64, 64)):
            frequency, power = metrics.power_spectrum(image[None, None])
            assert frequency[power.argmax()].item() == k / 64
            f = np.fft.fftfreq(64)
            rings = np.round(64 * np.hypot(f[:, None], f)).astype(int)
            counts = np.bincount(rings.ravel())[1:33]
            assert (counts * power.numpy()).sum() / 64**2 == pytest.approx(1, rel=1e-6)
            near = abs(np.arange(1, 33) - k) <= 2
            assert (counts * power.numpy())[near].sum() / 64**2 > 0.999

    def test_gain_and_offset_change_nothing_and_images_count_alike(self):
        images = sets()[0]
        power = metrics.power_spectrum(images).power
        torch.testing.assert_close(metrics.power_spectrum(0.2 * images.double() + 7).power, power)
        scaled = images * torch.logspace(-3, 3, len(images))[:, None, None, None]
        torch.testing.assert_close(metrics.power_spectrum(scaled).power, power, rtol=1e-5, atol=0)

    @pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 0.7, 1e6])
    def test_no_variation_no_power(self, value):
        flat = torch.full((1, 2, 37, 64), value)
        assert (metrics.power_spectrum(flat).power == 0).all()
        faint = flat.double() + 1e-6 * max(value, 1) * torch.rand(
            flat.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
        )
        assert (metrics.power_spectrum(faint).power > 0.1).all()

    def test_missing_values_and_shapes(self):
        images = sets()[0]
        images[0, 0, 3, 3] = math.nan
        assert metrics.power_spectrum(images).power.isnan().all()
        assert metrics.power_spectrum(images[1:]).power.isfinite().all()
        none = metrics.power_spectrum(images[:0])
        assert none.power.isnan().all() and none.power.shape == none.frequency.shape
        for wrong in (images[0], images[..., :3]):
            with pytest.raises(ValueError, match="sides of at least 4"):
                metrics.power_spectrum(wrong)

    def test_the_gap_is_that_of_the_curves_in_decibels(self):
        g = torch.Generator().manual_seed(6)
        source = torch.rand(6, 3, 64, 64, generator=g)
        soft = 0.25 * source + 0.5 * source.roll(1, 3) + 0.25 * source.roll(2, 3)
        metric = PowerSpectra(SENSOR)
        metric.add("source", source)
        metric.add("output", soft)
        curves = metric.curves()["psd"]
        f, a, b = (np.array(curves[k]) for k in ("frequency", "source", "output"))
        np.testing.assert_allclose([f, a], metrics.power_spectrum(source), rtol=1e-12)
        wanted = np.abs(10 * np.log10(b / a))[f >= 0.25].mean()
        assert metric.scores()[0] == pytest.approx(wanted, rel=1e-12)
        # the filter cos²(πf) of a wave along one axis: mean energy over each ring against that over the plane
        fy, fx = np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64), indexing="ij")
        gain = np.cos(np.pi * fx) ** 4
        ring = np.round(64 * np.hypot(fy, fx)).astype(int)
        expected = [abs(10 * np.log10(gain[ring == k].mean() / gain.mean())) for k in range(16, 33)]
        assert metric.scores()[0] == pytest.approx(np.mean(expected), abs=0.1)
        assert np.mean(expected) > 0.5

    def test_images_of_two_sizes_are_refused(self):
        metric = PowerSpectra(SENSOR)
        metric.add("source", torch.rand(1, 3, 32, 32))
        with pytest.raises(ValueError, match=r"target images have sides of \(48, 48\)"):
            metric.add("target", torch.rand(1, 3, 48, 48))


def closed(curves: dict) -> dict:
    """What JSON makes of it, strictly."""
    return json.loads(json.dumps(curves, allow_nan=False))


@pytest.mark.parametrize("entry", SET_METRICS, ids=lambda e: e.name)
class TestEverySetMetric:
    def filled(self, entry, batches: dict[str, list[Tensor]]):
        metric = entry.obj(SENSOR)
        for role, parts in batches.items():
            for part in parts:
                metric.add(role, part)
        return metric

    def test_batches_and_their_order_do_not_matter(self, entry):
        g = torch.Generator().manual_seed(8)
        images = {role: torch.rand(n + 6, 3, 32, 32, generator=g) ** (n + 1) for n, role in enumerate(ROLES)}
        whole = self.filled(entry, {role: [x] for role, x in images.items()})
        parts = self.filled(entry, {role: [x[5:], x[:2], x[2:5]] for role, x in reversed(images.items())})
        assert whole.scores() == pytest.approx(parts.scores(), rel=1e-10)
        one, other = closed(whole.curves()), closed(parts.curves())
        assert one.keys() == other.keys() and one

        def compare(a, b):
            if isinstance(a, dict):
                assert a.keys() == b.keys()
                for k in a:
                    compare(a[k], b[k])
            else:
                np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)

        compare(one, other)

    def test_card_and_scores_agree(self, entry):
        g = torch.Generator().manual_seed(9)
        metric = self.filled(entry, {role: [torch.rand(2, 3, 32, 32, generator=g)] for role in ROLES})
        scores = metric.scores()
        assert isinstance(scores, tuple) and len(scores) == len(entry.card.columns)
        assert all(isinstance(v, float) and math.isfinite(v) for v in scores)
        assert len(entry.card.better) in (1, len(entry.card.columns))
        assert entry.card.title and entry.card.summary and entry.card.tracks == ("calibration",)

    def test_nothing_added_gives_no_score_and_no_failure(self, entry):
        metric = entry.obj(SENSOR)
        assert all(math.isnan(v) for v in metric.scores())
        closed(metric.curves())
        metric.add("source", torch.rand(1, 3, 32, 32))
        metric.add("target", torch.rand(1, 3, 32, 32))
        assert all(math.isnan(v) for v in metric.scores())
        closed(metric.curves())

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    def test_cuda_gives_what_the_cpu_gives(self, entry):
        g = torch.Generator().manual_seed(10)
        images = {role: [torch.rand(3, 3, 32, 32, generator=g)] for role in ROLES}
        on_cpu = self.filled(entry, images)
        on_cuda = self.filled(entry, {role: [x.cuda() for x in v] for role, v in images.items()})
        assert on_cuda.scores() == pytest.approx(on_cpu.scores(), rel=1e-9)


class TestReflectance:
    def write(self, path: Path, text: str) -> Path:
        path.write_text(text)
        return path

    def test_band_means_are_those_of_a_quadrature(self):
        x = np.sort(np.random.default_rng(0).uniform(380, 650, 90))
        x[[0, -1]] = 380, 650
        y = 0.4 + 0.2 * np.sin(x / 7)
        spectrum = metrics.Spectrum(torch.from_numpy(x), torch.from_numpy(y))
        for width in (6.0, 25.0):
            wanted = [
                scipy.integrate.quad(
                    lambda t: np.interp(t, x, y), c - width / 2, c + width / 2, points=x[abs(x - c) < width / 2],
                    limit=200,
                )[0] / width
                for c in (631, 502, 395)
            ]  # fmt: skip
            np.testing.assert_allclose(metrics.band_reflectance(spectrum, width=width), wanted, rtol=1e-9)
        np.testing.assert_allclose(
            metrics.band_reflectance(spectrum, width=0), np.interp([631, 502, 395], x, y), rtol=1e-12
        )

    def test_a_band_at_the_very_ends_is_covered_and_one_beyond_is_not(self):
        line = metrics.Spectrum(
            torch.tensor([392.0, 500, 634]).double(), torch.tensor([0.2, 0.4, 0.9]).double()
        )
        inside = metrics.band_reflectance(line, (395, 631))
        np.testing.assert_allclose(inside, [np.interp(c, *line) for c in (395, 631)], rtol=1e-12)
        assert metrics.band_reflectance(line, (394.9, 631.1)).isnan().all()

    def test_zones_are_averaged_apart(self):
        images = sets(7)[0]
        zones = torch.tensor([3, 0, 3, 3, 1, 0, 3], dtype=torch.uint8)
        ours = metrics.mean_reflectance(images, zones)
        assert ours.shape == (4, 3) and ours.dtype == torch.float64
        for zone in (0, 1, 3):
            wanted = images[zones == zone].double().numpy().mean((0, 2, 3))
            np.testing.assert_allclose(ours[zone], wanted, rtol=1e-12)
        assert ours[2].isnan().all()
        np.testing.assert_allclose(
            metrics.mean_reflectance(images), images.double().numpy().mean((0, 2, 3)), rtol=1e-12
        )
        with pytest.raises(ValueError, match="7 images need as many zones"):
            metrics.mean_reflectance(images, zones[:3])

    def test_comparison_with_a_spectrum(self):
        flat = metrics.Spectrum(torch.tensor([450.0, 700]).double(), torch.tensor([0.5, 0.5]).double())
        found = metrics.compare_reflectance(torch.full((2, 3, 8, 8), 0.25), flat, torch.tensor([1, 0]))
        assert found.measured.shape == found.ratio.shape == (2, 3) and found.reference.shape == (3,)
        assert found.ratio[:, :2].eq(0.5).all() and found.ratio[:, 2].isnan().all()
        with pytest.raises(ValueError, match="2 channels and there are 3 band centres"):
            metrics.compare_reflectance(torch.rand(1, 2, 8, 8), flat)

    def test_mean_and_deviation_of_a_set(self):
        images = 1e3 + sets()[0].double()  # far from zero, where squares would cancel
        metric = Reflectance(SENSOR)
        for part in (images[:0], *images.split(2)):
            metric.add("output", part)
        found = metric.curves()["reflectance"]
        assert found["wavelength"] == [631, 502, 395]
        np.testing.assert_allclose(found["output"]["mean"], images.numpy().mean((0, 2, 3)), rtol=1e-13)
        np.testing.assert_allclose(found["output"]["std"], images.numpy().std((0, 2, 3)), rtol=1e-9)

    def test_spectra_are_read_as_numpy_reads_them(self, tmp_path):
        path = self.write(tmp_path / "s.txt", "#nm I/F\n700 0.5\n\n400.5 1e-1 # blue\n500,0.25\n")
        found = metrics.read_spectrum(path)
        assert found.wavelength.tolist() == [400.5, 500, 700] and found.reflectance.tolist() == [
            0.1,
            0.25,
            0.5,
        ]
        table = self.write(tmp_path / "t.txt", "300 299.9 0 .3\n301 300.9 0 .4\n")
        assert metrics.read_spectrum(table, 3).reflectance.tolist() == [0.3, 0.4]

    @pytest.mark.parametrize(
        ("text", "column", "message"),
        [
            ("400 0.1 0.2\n500 0.1 0.2\n", None, "has 3 columns; say which one"),
            ("400 0.1\n500 0.2\n", 2, "columns 0 … 1; 2 cannot"),
            ("400 0.1\n500 much\n", None, "not a table of numbers"),
            ("400 0.1\n500\n", None, "not a table of numbers"),
            ("400\n500\n", None, "no two columns"),
            ("# nothing\n", None, "no two columns"),
            ("0.4 0.1\n0.5 0.2\n", None, "not a wavelength in nm"),
            ("400 0.1\n500 nan\n", None, "not a wavelength in nm, or a value is missing"),
        ],
    )
    @pytest.mark.filterwarnings("error")
    def test_bad_files_are_named(self, tmp_path, text, column, message):
        path = self.write(tmp_path / "bad.txt", text)
        with pytest.raises(BenchError, match=message) as error:
            metrics.read_spectrum(path, column)
        assert str(path) in str(error.value)

    def test_absent_and_binary_files_are_named(self, tmp_path):
        with pytest.raises(BenchError, match=r"none\.txt: No such file"):
            metrics.read_spectrum(tmp_path / "none.txt")
        (tmp_path / "raw").write_bytes(bytes(range(128, 256)))
        with pytest.raises(BenchError, match="not a table of numbers"):
            metrics.read_spectrum(tmp_path / "raw")


def jupiter(*parts: str) -> Path:
    """A path below the folder of real Jupiter imagery; skips the test where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "jupiter"
    path = Path(os.environ.get("PANSHARP_JUPITER") or beside).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real imagery of Jupiter is not here ({path}); set PANSHARP_JUPITER to test with it")
    return path


@pytest.mark.parametrize(
    ("name", "column", "rows", "wanted"),
    [
        # I/F about 631, 502 and 395 nm, read off the tables by eye
        ("karkoschka", 3, 1750, (0.52, 0.48, 0.35)),
        ("mu10_pj19_IF_NAIC", None, 239, (0.84, 0.69, None)),
        ("muse_grs_spectrum", None, 183, (0.74, 0.43, None)),
        ("vims_grs_carlson2016", None, 115, (0.76, 0.60, 0.26)),
    ],
)
def test_real_reference_spectra(name, column, rows, wanted):
    spectrum = metrics.read_spectrum(jupiter("examples", "spectra", name), column)
    assert len(spectrum.wavelength) == rows and (spectrum.wavelength.diff() > 0).all()
    for band, value in zip(metrics.band_reflectance(spectrum), wanted, strict=True):
        assert band.isnan() if value is None else abs(band - value) < 0.02


def test_a_published_calibration_is_nearer_to_hubble_than_its_source():
    """One real segment, its published calibration and a segment of Hubble's, as 8-bit pictures."""
    from PIL import Image

    names = ("GRS_PJ_18_jc_000098", "GRS_PJ_18_jc_000098_calibrated_RGB", "GRS_cycle_22_rot_A_hst_000081_RGB")
    source, calibrated, hubble = (
        torch.from_numpy(np.asarray(Image.open(jupiter("examples", f"{n}.png")))[..., :3] / 255)
        .permute(2, 0, 1)[None]
        for n in names
    )  # fmt: skip
    for bins in (31, 256):
        before, after = (metrics.chi2_histogram(x, hubble, bins) for x in (source, calibrated))
        assert after < 0.5 * before
    assert metrics.earth_movers_distance(calibrated, hubble) < 0.3 * metrics.earth_movers_distance(
        source, hubble
    )
    great_red_spot = metrics.read_spectrum(jupiter("examples", "spectra", "vims_grs_carlson2016"))
    assert ((metrics.compare_reflectance(calibrated, great_red_spot).ratio - 1).abs() < 0.3).all()


def test_rmse_is_numpys():
    images, target = (x[:4] for x in sets())
    wanted = [
        np.sqrt(np.mean((a - b) ** 2))
        for a, b in zip(images.double().numpy(), target.double().numpy(), strict=True)
    ]
    np.testing.assert_allclose(metrics.rmse(images, target), wanted, rtol=1e-12)
    card = METRICS.get("rmse").card
    assert card.columns == ("RMSE",) and card.better == ("low",)
