"""A PGD-100 sweep on real beats by ecgbench, torchattacks, foolbox and ART, and what ours costs as it grows.

python benchmarks/speed/libraries.py [--table sweep] [--victim mlp] [--library torchattacks] [--runs 5]

Needs the recordings (ecgbench data get mitbih) and the three libraries; takes about an hour on one core, of which
the two convolutional victims take nine tenths.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from memory import peak
from pairs import machine, seconds
from real_beats import VICTIMS, Problem, problem
from sides import LIBRARIES, THEIR_PROTOCOL, Side, counted, ecgbench, torchattacks_relaid

from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.victim import Victim, chunks
from ecgbench.evaluation.sweep import Sweep
from ecgbench_plugins.attacks.spsa import SPSA

SIZES = {100: 5, 1_000: 5, 10_000: 3, 100_000: 1}
"""Beats, and how often each is timed."""
FEW = 10  # steps where the cost against size is measured


def paired(sides: Sequence[Callable[[], object]], runs: int) -> list[list[float]]:
    """CPU seconds of every side (side, run), the sides in turn within each run."""
    taken = [[seconds(side) for side in sides] for _ in range(runs)]
    return [list(column) for column in zip(*taken, strict=True)]


def sweep_table(name: str, libraries: dict[str, Side], runs: int) -> None:
    """Seconds, samples, memory and agreement on one victim."""
    case = problem(name)
    sides: dict[str, Side] = {"ecgbench": ecgbench} | libraries
    if case.plain is not case.relaid and "torchattacks" in libraries:
        sides["torchattacks, conv2d"] = torchattacks_relaid
    found = {label: counted(side, case) for label, side in sides.items()}
    taken = paired([lambda side=side: side(case) for side in sides.values()], runs)
    heads = {label: peak(side, case.sized(10), case) for label, side in sides.items()}
    same, _, _ = counted(lambda one: ecgbench(one, THEIR_PROTOCOL), case)
    print(f"\n{name}: {len(case.y)} beats, PGD-{case.steps}, eps {', '.join(map(str, case.eps))}")
    print("right at each eps, ours:", *(f"{1 - float(row.float().mean()):.3f}" for row in found["ecgbench"][0]))
    print(f"{'':<22}{'s':>8}{'ratio':>7}{'forwards':>10}{'gradients':>11}{'ratio':>7}{'MB':>7}  theirs only; differ")
    _, _, own = found["ecgbench"]
    for (label, (wrong, forwards, gradients)), times in zip(found.items(), taken, strict=True):
        ratio = median(theirs / ours for ours, theirs in zip(taken[0], times, strict=True))
        only = (wrong & ~found["ecgbench"][0]).sum(1).tolist()
        differ = (wrong != same).sum(1).tolist() if label != "ecgbench" else ""
        print(
            f"{label:<22}{median(times):>8.2f}{ratio:>7.2f}{forwards:>10}{gradients:>11}{gradients / own:>7.2f}"
            f"{heads[label]:>7.1f}  {only}; {differ}",
            flush=True,
        )


def size_table(libraries: dict[str, Side]) -> None:
    """Seconds against the number of beats, on the undefended MLP, with few steps."""
    sides: dict[str, Side] = {"ecgbench": ecgbench} | libraries
    case = replace(problem("mlp"), steps=FEW)
    print(f"\nmlp, PGD-{FEW}: seconds by number of beats (ratio to ours)")
    print(f"{'beats':>8}" + "".join(f"{label:>18}" for label in sides))
    for n, runs in SIZES.items():
        grown = case.sized(n)
        ecgbench(grown)
        taken = paired([lambda side=side, grown=grown: side(grown) for side in sides.values()], runs)
        ratios = [median(b / a for a, b in zip(taken[0], times, strict=True)) for times in taken]
        columns = zip(taken, ratios, strict=True)
        print(f"{n:>8}" + "".join(f"{median(times):>10.3f} ({ratio:>5.2f})" for times, ratio in columns), flush=True)


def spsa_sweep(case: Problem, attack: SPSA) -> Sweep:
    return Sweep(attack, Victim(case.frozen), case.task, Threat("linf"), (0.1,), RandomStream(("attack", 0)))


def spsa_run(case: tuple[Problem, SPSA]) -> object:
    return spsa_sweep(*case).run(Checkpoint())


def bare_forwards(case: Problem, samples: int) -> None:
    """As many forwards of the victim alone, in batches of the size that the bench uses."""
    piece = chunks(torch.arange(samples), case.task.shape)[0]
    x = case.x[piece % len(case.y)]
    with torch.no_grad():
        for _ in range(samples // len(piece)):
            case.frozen(x)


def spsa_table(runs: int) -> None:
    """SPSA's queries per second against those of the victim alone, and its memory as it grows."""
    case, samples = problem("mlp", limit=100), 1_000_000
    found = spsa_sweep(case, SPSA()).run(Checkpoint())
    taken = paired([lambda: spsa_run((case, SPSA())), lambda: bare_forwards(case, samples)], runs)
    share = median(int(found.forwards.sum()) / a / (samples / b) for a, b in zip(*taken, strict=True))
    per_second = int(found.forwards.sum()) / median(taken[0])
    print(f"\nspsa, mlp, {len(case.y)} beats, eps 0.1: {found.forwards.mean():,.0f} queries a beat")
    print(f"{per_second:,.0f} queries a second, {share:.2f} of the bare forward's {samples / median(taken[1]):,.0f}")
    print("peak MB by beats and pairs, 2 steps:")
    many = problem("mlp")
    for n, pairs in ((100, 512), (100, 4096), (800, 512), (800, 4096)):
        small, whole = (many.sized(10), SPSA(steps=1, pairs=8)), (many.sized(n), SPSA(steps=2, pairs=pairs))
        print(f"{n:>6}{pairs:>6}{peak(spsa_run, small, whole):>8.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="append", choices=("sweep", "size", "spsa"))
    parser.add_argument("--victim", action="append", choices=tuple(VICTIMS))
    parser.add_argument("--library", action="append", choices=tuple(LIBRARIES))
    parser.add_argument("--runs", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tables: Any = chosen.table or ("sweep", "size", "spsa")
    libraries = {name: side for name, side in LIBRARIES.items() if name in (chosen.library or LIBRARIES)}
    print(machine())
    if "sweep" in tables:
        for name in chosen.victim or VICTIMS:
            sweep_table(name, libraries, chosen.runs)
    if "size" in tables:
        size_table(libraries)
    if "spsa" in tables:
        spsa_table(chosen.runs)


if __name__ == "__main__":
    main()
