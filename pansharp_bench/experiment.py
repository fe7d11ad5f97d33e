"""One run, from specification to record: data, fit, evaluate, write."""

from __future__ import annotations

import os
import socket
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pansharp_bench import record as records
from pansharp_bench.environment import device_name, environment, peak_memory
from pansharp_bench.errors import BenchError, DataError, blaming
from pansharp_bench.external import StoredImages, save_image
from pansharp_bench.figures import compare_scene, training_curves
from pansharp_bench.files import RunFolder, check_writable
from pansharp_bench.method import Method, TrainedMethod, build
from pansharp_bench.plan import Plan, RunSpec, essential, plan, second_split
from pansharp_bench.presets import takes_steps
from pansharp_bench.protocol import Evaluation, evaluate, rehearse
from pansharp_bench.record import Record
from pansharp_bench.registry import TRACKS, load_plugin, loaded_plugins
from pansharp_bench.scene import SplitName
from pansharp_bench.training import PairedData, Team, Trainer, UnpairedData, launch
from pansharp_bench.weights import described, save_weights

Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """Where everything went."""

    record: Record
    path: Path
    folder: RunFolder
    pictures: list[Path]
    checkpoint: Path | None


def run(
    spec: RunSpec | Plan,
    results: Path = Path("results"),
    runs: Path = Path("runs"),
    *,
    force: bool = False,
    resume: bool = False,
    pictures: int = 2,
    progress: bool = True,
    save_fused: Path | None = None,
    say: Say = lambda text: None,
) -> Outcome:
    """Carry out a run and write its record under ``results``; checkpoint, log and pictures go under ``runs``, the
    fused test images under ``save_fused``, where that is given.

    Warns of what speaks against the files, of plug-ins that are not what they were, and where no other record is of
    the same files. Raises BenchError (or a subclass) for every mistake a user can mend, before any training where
    possible; RecordExists where the record of an identical run lies under ``results`` and ``force`` is not given.
    """
    settled = plan(spec) if isinstance(spec, RunSpec) else spec
    trains = settled.config is not None and not settled.spec.weights
    if resume and not trains:
        raise BenchError("there is no training to resume; leave out --resume")
    path, folder = settled.path(results), settled.folder(runs)
    if not force:
        records.refuse_existing(path)
    for written_to in filter(None, (path.parent, folder.path, save_fused)):
        check_writable(written_to)
    with folder.held():
        if not force:
            records.refuse_existing(path)  # who held it until now may have written it
        if trains:
            _check_state(folder, force, resume)
        faults = _faults(settled)
        if settled.foreign and (changed := records.foreign_changes(path, settled.identity, essential)):
            warnings.warn(f"not the run of {changed[0]}: other code of {', '.join(changed[1])}", stacklevel=1)
        outcome = _run(settled, faults, results, folder, force, resume, pictures, progress, save_fused, say)
    _warn_of_others(results, outcome.record)
    return outcome


def _warn_of_others(results: Path, record: Record) -> None:
    others = records.of_dataset(results, record)
    if different := records.apart(record.dataset, [r.dataset for r in others]):
        warnings.warn(
            f"none of the {len(others)} other records of {record.dataset['name']} is of these files: {different}. "
            "What was scored or trained on other files stands apart in tables",
            stacklevel=1,
        )


def score(
    plan: Plan,
    images: Mapping[SplitName, Sequence[Path]],
    results: Path = Path("results"),
    *,
    force: bool = False,
    progress: bool = True,
) -> tuple[Record, Path]:
    """Score fused images that were made elsewhere (see :func:`~pansharp_bench.plan.plan_external`) and write the
    record. Raises BenchError (or a subclass) as :func:`run` does."""
    path = plan.path(results)
    if not force:
        records.refuse_existing(path)
    check_writable(path.parent)
    faults = _faults(plan)
    scores, _, _ = _evaluate(
        plan, lambda split: StoredImages(plan.entry.card, images[split]), 0, progress, None
    )
    made = _record(plan, faults, scores)
    path = records.write(made, results, force)
    _warn_of_others(results, made)
    return made, path


def _check_state(folder: RunFolder, force: bool, resume: bool) -> None:
    """Raises BenchError where a training would be lost, or resumed that is not there."""
    there = folder.checkpoint.exists()
    if there and not (force or resume):
        raise BenchError(
            f"a training of this run lies in {folder.path}: go on with it by --resume, or train anew by --force"
        )
    if resume and not there:
        start = folder.path.name.rpartition("-")[0]
        others = sorted(folder.path.parent.glob(f"{start}-*/{folder.checkpoint.name}"))
        found = (
            f" (of other options, files or code there are {', '.join(map(str, others))})" if others else ""
        )
        raise BenchError(
            f"nothing to resume: {folder.checkpoint} does not exist{found}; run without --resume"
        )


def _faults(plan: Plan) -> list[str]:
    """Errors that a glance at the files in use finds, where the user accepts them; warnings are passed on. Raises
    DataError where they are not accepted."""
    splits = dict.fromkeys(f["split"] for f in plan.described["files"])
    found = list(plan.dataset.glance(*splits))
    for level, text in found:
        if level == "warning":
            warnings.warn(f"{plan.dataset.name}: {text}", stacklevel=1)
    faults = [text for level, text in found if level == "error"]
    if faults and not plan.spec.accept_faults:
        raise DataError(
            f"the files of {plan.dataset.name} are not as they should be: {'; '.join(faults)}. Mend that "
            "(`bench data check` tells all), or accept it with --accept-faults, which the record will say"
        )
    folders = {f"{f.path.parent}{os.sep}" for f in plan.dataset.files(*splits)} if faults else ()
    for folder in folders:  # where the files lay is no part of a record
        faults = [text.replace(folder, "") for text in faults]
    return faults


def _run(
    plan: Plan,
    faults: list[str],
    results: Path,
    folder: RunFolder,
    force: bool,
    resume: bool,
    pictures: int,
    progress: bool,
    save_fused: Path | None,
    say: Say,
) -> Outcome:
    spec, identity, dataset, device = plan.spec, plan.identity, plan.dataset, plan.device
    say(
        f"method {identity['method']} · dataset {dataset.name} · preset {identity['preset']} · "
        f"seed {identity['seed']} · {device_name(device)}"
    )
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    training: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    checkpoint = None
    method: Method
    if plan.config is None or spec.weights:
        method = build(plan.entry, dataset.sensor, plan.config)
    else:
        if takes_steps(plan.entry):
            rehearse(dataset, plan.protocols, device)
        method, training = _train(plan, folder.path, resume, progress)
    if isinstance(method, TrainedMethod):
        if spec.weights:
            method.load_weights(spec.weights)
        method.to(device).eval()
        checkpoint = folder.weights
        trained_on = plan.train_files
        own = described(spec.weights).get("train_files", {}) if spec.weights else trained_on
        # given weights keep what they said of their training, or say nothing of it
        about = {**identity, "sensor": method.sensor.name, "train_files": own}
        sha256 = save_weights(method.state_dict(), checkpoint, records.canonical(about))
        weights = {"sha256": sha256, **identity["weights"]}
        if spec.weights:
            weights |= {"file": spec.weights.name, "trained_here": bool(own) and own == trained_on}
        weights["parameters"] = sum(p.numel() for p in method.parameters())

    try:
        scores, inference, fused = _evaluate(plan, lambda split: method, pictures, progress, save_fused)
    except BenchError as error:
        if not training:
            raise
        kept = f"What was learnt is kept: once mended, give it by --weights {checkpoint}"
        raise BenchError(f"{error}. {kept}") from error.__cause__ or error
    made = _record(
        plan,
        faults,
        scores,
        training=training,
        inference=inference,
        weights=weights,
        environment=environment(device, identity["precision"]) | {"peak_memory": peak_memory(device)},
    )
    path = records.write(made, results, force)
    drawn: list[Path] = []
    try:
        drawn = _draw(plan, folder, fused)
    except BenchError as error:  # the record is there: its scores are worth more than pictures of them
        warnings.warn(f"no pictures: {error}", stacklevel=1)
    return Outcome(made, path, folder, drawn, checkpoint)


def _evaluate(
    plan: Plan,
    method_for: Callable[[SplitName], Method],
    pictures: int,
    progress: bool,
    save_fused: Path | None,
) -> tuple[dict[str, Any], dict[str, Any], dict[SplitName, list[Tensor]]]:
    """Scores by protocol, times by split, and the first fused images of each."""
    scores: dict[str, Any] = {}
    inference: dict[str, Any] = {}
    kept: dict[SplitName, list[Tensor]] = {}
    for split in dict.fromkeys(p.split for p in plan.protocols):
        asked = [p for p in plan.protocols if p.split == split]
        save = partial(save_image, save_fused / split) if save_fused else _leave
        result = evaluate(method_for(split), plan.dataset, asked, plan.device, pictures, progress, save)
        for protocol in asked:
            better = {c: b for e in protocol.entries() for c, b in e.card.directions.items()}
            scores[protocol.name] = {**records.summarise(result.scores[protocol.name]), "better": better}
            for what, found in (("curves", result.curves), ("floors", result.floors)):
                if found[protocol.name]:
                    scores[protocol.name][what] = found[protocol.name]
            if result.origins:
                scores[protocol.name]["origins"] = result.origins
        inference[split] = _timing(result)
        kept[split] = result.fused
    return scores, inference, kept


def _leave(index: int, fused: Tensor) -> None:
    """Nothing is saved."""


def _record(plan: Plan, faults: list[str], scores: dict[str, Any], **more: dict[str, Any]) -> Record:
    return Record(
        schema=records.SCHEMA,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        spec=plan.identity,
        spec_sha256=plan.sha256,
        method=asdict(plan.entry.card),
        dataset=plan.described | ({"accepted_faults": faults} if faults else {}),
        protocols=scores,
        **more,
    )


def _draw(plan: Plan, folder: RunFolder, outputs: dict[SplitName, list[Tensor]]) -> list[Path]:
    """Pictures of the run: training curves where a log lies, and the first scenes of every split."""
    title = f"{plan.entry.card.label} · {plan.dataset.name}"
    curves = training_curves(folder.log, folder.pictures / "training.png", title)
    drawn = [curves] if curves else []
    for split, images in outputs.items():
        for index, fused in enumerate(images):
            protocol = next(p for p in plan.protocols if p.split == split)
            where = f"{title} · {protocol.title.lower()}, scene {index}"
            path = folder.pictures / f"{split}-{index:02d}.png"
            source = TRACKS.get(plan.identity["track"]).obj.source
            drawn.append(compare_scene(plan.dataset.split(split)[index], fused, path, where, source))
    return drawn


def ready(plan: Plan, runs: Path = Path("runs"), *, progress: bool = True) -> Method:
    """The method of a plan, on its device, to fuse with; nothing is written. A trained one takes the weights it was
    given, or those of its finished run, or is fitted here, where that takes no steps.

    Raises BenchError where it does and has no finished run.
    """
    method = build(plan.entry, plan.dataset.sensor, plan.config)
    if isinstance(method, TrainedMethod):
        finished = plan.folder(runs).weights
        if plan.spec.weights or finished.exists():
            method.load_weights(plan.spec.weights or finished)
        elif takes_steps(plan.entry):
            raise BenchError(
                f"{plan.entry.name} has no finished run of these settings in {runs}: `{plan.command}` makes one"
            )
        else:
            method, _ = _train(plan, None, False, progress)
        method.to(plan.device).eval()
    return method


def _train(
    plan: Plan, folder: Path | None, resume: bool, progress: bool
) -> tuple[TrainedMethod, dict[str, Any]]:
    """The method, trained together with others where the spec says so, and what the record tells of that."""
    spec = replace(plan.spec, preset=plan.identity["preset"], precision=plan.identity["precision"])
    order = partial(_assist, loaded_plugins(), spec, plan.sha256, resume)
    with launch.team(launch.launched(spec.devices, spec.nodes), plan.device, order) as team:
        method, told = _fit(plan, team, folder, resume, progress)
    return method, told | {"devices": spec.devices, "nodes": spec.nodes}


def _assist(plugins: list[Path], spec: RunSpec, sha256: str, resume: bool, team: Team) -> None:
    """What the other processes of a team do in a training: the same, and keep nothing."""
    for path in plugins:
        load_plugin(path)
    settled = plan(spec)
    if settled.sha256 != sha256:
        raise BenchError(
            f"{socket.gethostname()} has other data files or other plug-ins than the first process of this "
            "training"
        )
    _fit(settled, team, None, resume, progress=False)


def _fit(
    plan: Plan, team: Team, folder: Path | None, resume: bool, progress: bool
) -> tuple[TrainedMethod, dict[str, Any]]:
    dataset, device = plan.dataset, plan.device
    if team.size > 1 and device.type == "cuda":
        device = torch.device("cuda", team.local)
    trainer = Trainer(
        folder, str(device), plan.identity["precision"], plan.spec.seed, resume, progress, plan.sha256, team
    )
    method = build(plan.entry, dataset.sensor, plan.config)
    assert isinstance(method, TrainedMethod)
    with blaming(f"dataset {dataset.name!r} failed"):
        data = _training_data(plan, method, trainer, team)
    method.to(trainer.device).train()
    started = time.perf_counter()
    with blaming(f"method {method.card.name!r} failed in training"):
        fitted = method.fit(data, trainer) or {}
    if takes_steps(plan.entry) and getattr(plan.config, "steps", None) and trainer.summary is None:
        warnings.warn(
            f"method {method.card.name!r} took no steps by trainer.run in fit: what it learnt, if anything, has no "
            "log and no checkpoint (`bench check` tells more)",
            stacklevel=1,
        )
    return method, {
        "data": data.describe(),
        "seconds": time.perf_counter() - started,
        "summary": asdict(trainer.summary) if trainer.summary else {},
        "fitted": fitted,
    }


def _training_data(
    plan: Plan, method: TrainedMethod, trainer: Trainer, team: Team
) -> PairedData | UnpairedData:
    """What a method is served, on the device."""
    dataset, sensor, device = plan.dataset, plan.dataset.sensor, trainer.device
    train, second = dataset.split("train"), dataset.split(second_split(dataset))
    wanted = method.training_data()
    half = "16" in trainer.precision  # half a DN is lost to such autocast anyway
    served: dict[str, Any] = dict(half=half, team=team, progress=trainer.progress)
    if second.name == "target":
        return UnpairedData.between(sensor, train, second, device, pairing=wanted.pairing, **served)
    if method.card.training == "unpaired":
        return UnpairedData.halves(
            sensor, train, second, device, trainer.seed, wanted.pairing, wanted.target, **served
        )
    return PairedData(sensor, train, second, device, **served)


def _timing(result: Evaluation) -> dict[str, Any]:
    """Median over images without the first, which pays for warming up."""
    seconds = result.seconds[1:] or result.seconds
    median = statistics.median(seconds)
    return {
        "seconds_per_image": median,
        "pixels_per_image": result.pixels,
        "milliseconds_per_megapixel": median * 1e3 / (result.pixels / 1e6),
    }


__all__ = ["Outcome", "ready", "run", "score"]
