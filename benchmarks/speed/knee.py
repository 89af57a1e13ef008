"""A made-up tree in MRNet's layout and of its full size, and what an epoch and an FGSM sweep on it cost.

python benchmarks/speed/knee.py make FOLDER             2.5 GB of volumes of one plane, random values
python benchmarks/speed/knee.py whole FOLDER            seconds to open it, an epoch, a sweep, and the peak of memory
python benchmarks/speed/knee.py pairs FOLDER [--exams]  beside a plain loop of batch size 1 with three equal channels
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import torch
from numpy.typing import NDArray
from pairs import machine, pairs
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.optim import Adam

from ecgbench.core.data import Samples, Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.signals import ByteSignals, SelectedSignals
from ecgbench.core.victim import frozen
from ecgbench.evaluation.sweep import Protocol, Sweep
from ecgbench_plugins.attacks.fgsm import FGSM
from ecgbench_plugins.datasets.mrnet import MRNet
from ecgbench_plugins.defenses.augmentation import Augmented
from ecgbench_plugins.models.mrnet import Network, SmallMRNet

TREE, PLANE = "MRNet-v1.0", "sagittal"
PARTS = {"train": range(1130), "valid": range(1130, 1250)}
RATES = {"abnormal": 0.806, "acl": 0.233, "meniscus": 0.371}
SLICES = (17, 61)
GREY, DEVIATION = 58.09, 49.73  # as the study standardises, of 0 to 255
RNG, EPS = RandomStream(("speed",)), MRNet.defaults.eps
EVERY = Protocol(success="last", sweep="independent", clean_wrong="attacked")  # every exam at every eps


def make(folder: Path) -> None:
    """The tree: 17 to 61 slices, short ones more often, 31.7 in the mean."""
    draw = np.random.default_rng(0)
    for part, exams in PARTS.items():
        (folder / TREE / part / PLANE).mkdir(parents=True)
        for exam in exams:
            slices = round(draw.triangular(SLICES[0], SLICES[0], SLICES[1]))
            volume = draw.integers(0, 256, (slices, 256, 256), dtype=np.uint8)
            np.save(folder / TREE / part / PLANE / f"{exam:04d}.npy", volume)
        for name, rate in RATES.items():
            lines = [f"{exam:04d},{int(draw.random() < rate)}\n" for exam in exams]
            (folder / TREE / f"{part}-{name}.csv").write_text("".join(lines))


def network(task: Task) -> Network:
    torch.manual_seed(0)
    module = SmallMRNet().build(task)
    assert isinstance(module, Network)
    return module


def whole(folder: Path) -> None:
    """What a user pays: opening, an epoch with AUROC on validation, FGSM at four sizes on all test exams."""
    began = perf_counter()
    task = MRNet().load(DataRoot(folder))
    print(f"opened in {perf_counter() - began:.1f} s: {len(task.train)}, {len(task.val)}, {len(task.test)} exams")
    module = network(task)
    for name, work in (("epoch", lambda: epoch(module, task)), ("sweep", lambda: sweep(module, task))):
        began, cpu = perf_counter(), process_time()
        work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        seconds = f"{perf_counter() - began:.0f} s, {process_time() - cpu:.0f} s of CPU"
        print(f"{name}: {seconds}, peak {peak:.2f} GiB", flush=True)


def epoch(module: Module, task: Task, batch: int = 1) -> None:
    """One exam a step, as the study."""
    Augmented(epochs=1, batch=batch).fit(module, task, RNG, Checkpoint())


def sweep(module: Module, task: Task) -> None:
    Sweep(FGSM(), frozen(module, task.outputs), task, MRNet.defaults.threat, EPS, RNG, EVERY).run(Checkpoint())


def compare(folder: Path, exams: int) -> None:
    """Both on the first exams of train, decoding included; both validate on two exams."""
    task = MRNet().load(DataRoot(folder))
    some, two = task.train.select(torch.arange(exams)), task.val.select(both(task.val.y))
    task = replace(task, train=some, val=two, test=some)
    volumes, held = arrays(some), arrays(two)
    ours, theirs = network(task), network(task)
    print(f"{exams} exams, {sum(map(len, volumes))} slices; {machine()}")
    for name, one, other in (
        ("epoch, batches of 1", lambda: epoch(ours, task), lambda: plain_epoch(theirs, volumes, some.y, held)),
        ("epoch, batches of 4", lambda: epoch(ours, task, 4), lambda: plain_epoch(theirs, volumes, some.y, held)),
        ("sweep", lambda: sweep(ours, task), lambda: plain_sweep(theirs, volumes, some.y)),
    ):
        a, b, ratio = pairs(one, other, runs=5)
        print(f"{name}: ours {a:.1f} s, plain loop {b:.1f} s of CPU, {1 / ratio:.2f} times as fast", flush=True)


def arrays(samples: Samples) -> list[NDArray[np.uint8]]:
    """The volumes (slices, 1, 256, 256) as they lie on disk, mapped."""
    signals = samples.signals
    assert isinstance(signals, SelectedSignals) and isinstance(signals.source, ByteSignals)
    return [signals.source.arrays[int(row)] for row in signals.rows]


def both(y: Tensor) -> Tensor:
    """A row of each class."""
    return torch.stack([(y == label).nonzero()[0, 0] for label in (0, 1)])


def plain_epoch(
    module: Network, volumes: Sequence[NDArray[np.uint8]], y: Tensor, held: Sequence[NDArray[np.uint8]]
) -> None:
    """The study's: one exam a step, three equal channels, weighted cross-entropy; then the exams held out."""
    optimizer, positive = Adam(module.parameters(), 2e-3), y.float().mean()
    module.requires_grad_(True).train()
    for row in torch.randperm(len(volumes)).tolist():
        weight = 1 - positive if y[row] else positive
        loss = weight * bce(plain_logit(module, standardised(volumes[row])), y[row].float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        for volume in held:
            plain_logit(module, standardised(volume))


def plain_sweep(module: Network, volumes: Sequence[NDArray[np.uint8]], y: Tensor) -> None:
    """FGSM on every exam by itself: a gradient and a forward at each size."""
    module.requires_grad_(False).eval()
    low, high = (torch.tensor((end - GREY) / DEVIATION) for end in (0, 255))
    for row, volume in enumerate(volumes):
        x = standardised(volume)
        with torch.no_grad():
            plain_logit(module, x)
        for eps in EPS:
            x.requires_grad_(True)
            (gradient,) = torch.autograd.grad(bce(plain_logit(module, x), y[row].float()), x)
            with torch.no_grad():
                x.requires_grad_(False)
                plain_logit(module, (x + eps * 255 / DEVIATION * gradient.sign()).clamp(low, high))


def standardised(volume: NDArray[np.uint8]) -> Tensor:
    """(slices, 3, 256, 256), as the study's loader gives them."""
    x = (volume[:, 0].astype(np.float32) - GREY) / DEVIATION
    return torch.from_numpy(np.stack([x] * 3, 1))


def plain_logit(module: Network, x: Tensor) -> Tensor:
    """As the study codes its network: (), of one exam."""
    return module.head(module.features(x).mean((2, 3)).amax(0, keepdim=True))[0, 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "whole", "pairs"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--exams", type=int, default=24)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "pairs":
        compare(given.folder, given.exams)
    else:
        {"make": make, "whole": whole}[given.what](given.folder)


if __name__ == "__main__":
    main()
