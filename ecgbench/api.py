"""ecgbench from Python: the records of a suite, and a verdict on a model that somebody already has."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import Module

from ecgbench.audit import Audit
from ecgbench.bench import Bench
from ecgbench.catalog import LOCAL, Catalog, discover
from ecgbench.cell import Cell
from ecgbench.checks import Examination
from ecgbench.data import Samples, Task
from ecgbench.dataroot import DataRoot
from ecgbench.errors import EcgbenchError
from ecgbench.interfaces import Attack
from ecgbench.journal import Journal, Progress
from ecgbench.keyed import Keyed
from ecgbench.parameters import MisfitError, Reader, misfit, shown
from ecgbench.published import pack
from ecgbench.record import Record
from ecgbench.scoring import Costs, Parts, score
from ecgbench.store import Store, key_of, pack_tensors
from ecgbench.suite import Grid, parse_eps, parse_seeds, read_suite, unfold
from ecgbench.sweep import STANDARD, Protocol, Sweep
from ecgbench.threat import Threat
from ecgbench.victim import Victim, evaluating
from ecgbench.zoo import CHECKPOINTS

Words = str | Sequence[str]


def run(
    suite: str | Path | None = None,
    *,
    model: Words = (),
    attack: Words = (),
    defense: Words = "none",
    dataset: Words = (),
    threat: Words = (),
    eps: float | str | Sequence[float | str] = (),
    seed: int | Sequence[int] = 0,
    limit: int | None = None,
    protocol: str = "standard",
    audit: bool = False,
    skip_bad_records: bool = False,
    data: Mapping[str, str | Path] | None = None,
    store: str | Path | None = None,
    device: str = "cpu",
    plugins: Sequence[str] = (),
    tell: Callable[[Progress], None] = lambda _: None,
) -> list[Record]:
    """Run a suite file, or the grid of all combinations of the selectors given; the records, in order.

    Selectors and defaults are those of the command line; `data` maps a dataset's name to its folder; `audit` makes
    the costly checks, too; `skip_bad_records` leaves out damaged recordings, named in the records. Raises
    EcgbenchError for what cannot be planned; a cell that fails gives a record whose `status` says so.
    """
    bench = open_bench(data=data or {}, store=store, device=device, plugins=plugins, tell=tell)
    if suite is not None:
        chosen = (model, attack, defense, dataset, threat, _several(eps), seed, limit, protocol, audit)
        if chosen != ((), (), "none", (), (), (), 0, None, "standard", False):
            raise EcgbenchError("a suite and selectors were both given; expected one of them.")
        grids = read_suite(Path(suite))
    else:
        grids = (
            Grid(
                model=_several(model),
                attack=_several(attack),
                defense=_several(defense),
                dataset=_several(dataset),
                threat=_several(threat),
                eps=parse_eps(_several(eps)),
                seed=parse_seeds(map(str, _several(seed))),
                limit=limit,
                protocol=protocol,
                audit=audit,
            ),
        )
    cells = unfold(grids, bench.catalog)
    if skip_bad_records:
        cells = skipping_bad(cells, bench.catalog)
    bench.find(cells)
    return [bench.execute(cell) for cell in cells]


def evaluate(
    module: Module,
    x: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    *,
    threat: Threat | str = "linf",
    epsilons: float | str | Sequence[float | str],
    attack: Attack | str = "pgd100",
    bounds: tuple[float, float] | None = None,
    mask: ArrayLike | Tensor | None = None,
    group: ArrayLike | Tensor | None = None,
    classes: Sequence[str] | None = None,
    headline: float | None = None,
    seed: int = 0,
    protocol: Protocol | str = STANDARD,
    audit: bool = False,
    tell: Callable[[Progress], None] | None = None,
) -> Record:
    """How robust is `module`? It maps x (n, *shape) to logits (n, classes) and is left as it was.

    `x` float, `y` (n,) labels 0..classes-1; `mask` (n, ...), broadcastable to x, True where an attack may write;
    `group` (n,) the patient of each sample; `bounds` the valid range of x. `attack`, `threat` and `protocol` are
    selectors or values, also of classes that no plugin offers. `headline` is the one of `epsilons` that the checks look
    at, the largest by default; `audit` makes the costly checks, too, but for those that need an undefended twin. Scores
    are plain: every sample counts once. Raises EcgbenchError for bad input.
    """
    catalog = discover()
    rules: Threat = _value(catalog, "threat", threat, Threat)
    foe: Attack = _value(catalog, "attack", attack, Attack)
    way: Protocol = _value(catalog, "protocol", protocol, Protocol)
    sizes, (number,) = parse_eps(_several(epsilons)), parse_seeds([str(seed)])
    if not sizes:
        raise EcgbenchError("no eps is given; expected at least one above 0.")
    decides = sizes[-1] if headline is None else parse_eps([headline])[0]
    if decides not in sizes:
        raise EcgbenchError(f"headline {decides} is given; expected one of the epsilons {list(sizes)}.")
    if foe.source is not None:
        raise EcgbenchError(f"{foe!r} needs a second victim, which evaluate has not; expected another attack.")
    samples = Samples.of(
        _tensor("x", x, torch.float32),
        _tensor("y", y, torch.int64),
        mask=None if mask is None else _tensor("mask", mask, torch.bool),
        group=None if group is None else _tensor("group", group, torch.int64),
    )
    if samples.y.ndim != 1 or not len(samples):
        raise EcgbenchError(f"y has shape {tuple(samples.y.shape)}; expected (n,), one label of each sample.")
    with evaluating(module) as victim:
        names = tuple(classes) if classes is not None else _numbered(victim, samples)
        given = Task("given", names, samples[:0], samples[:0], samples, bounds=bounds)
        task = given.some_of_each(way.per_class)
        reason = foe.unfit(task, rules)
        if reason is not None:
            raise EcgbenchError(reason)
        sweep = Sweep(foe, victim, task, rules, sizes, Keyed(("attack", number)), way, device=str(victim.device))
        outcomes = sweep.run(Journal(tell))
        checks = Examination(sweep, outcomes, decides).run()
        if audit:
            checks += Audit(sweep, outcomes, decides).run()
    parts = Parts(
        names={
            "dataset": "given",
            "model": type(module).__name__,
            "defense": "given",
            "attack": catalog.words(foe),
            "threat": catalog.words(rules),
            "protocol": catalog.canonical("protocol", way),
        },
        plugins={"attack": _offered_by(catalog, foe)},
        epsilons=sizes,
        headline=decides,
        seed=number,
        determinism=foe.determinism,
        libraries=foe.libraries,
    )
    identity = {
        "victim": {"data": _digest(samples), "weights": hashlib.sha256(pack_tensors(module.state_dict())).hexdigest()},
        **parts.names,
        "epsilons": [repr(eps) for eps in sizes],
        "headline": repr(decides),
        "bounds": None if bounds is None else [repr(float(end)) for end in bounds],
        "seed": number,
    }
    return score(parts, task, outcomes, checks, Costs(0.0, 0.0), identity, key_of(identity), pack(outcomes))


def open_bench(
    *,
    data: Mapping[str, str | Path],
    store: str | Path | None,
    device: str,
    plugins: Sequence[str],
    tell: Callable[[Progress], None],
    say: Callable[[str], None] = lambda _: None,
    retrain: bool = False,
) -> Bench:
    """The bench of this machine: $ECGBENCH_HOME (or the user's cache) for results, $ECGBENCH_DATA for records.

    Published victims are looked for in the leaderboard of the working directory.
    """
    home = home_folder() if store is None else Path(store)
    catalog = discover(tuple(plugins))
    for name in data:
        catalog.lookup("dataset", name)
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise EcgbenchError(f"device {device!r} is not there; expected cpu, or cuda on a machine that has it.")
    root = data_root({name: Path(place) for name, place in data.items()})
    published = Store(CHECKPOINTS, say) if CHECKPOINTS.is_dir() else None
    kept = Store(home / "store", say)
    return Bench(catalog, root, kept, device=device, tell=tell, retrain=retrain, checkpoints=published)


def skipping_bad(cells: Sequence[Cell], catalog: Catalog) -> list[Cell]:
    """The cells, with every dataset told to leave out damaged recordings by its parameter `skip_bad`.

    Raises EcgbenchError for a dataset that has no such parameter.
    """
    for cell in cells:
        if not hasattr(cell.dataset, "skip_bad"):
            name = catalog.canonical("dataset", cell.dataset)
            raise EcgbenchError(f"damaged recordings of {name} cannot be skipped: it has no parameter skip_bad.")
    return [replace(cell, dataset=replace(cell.dataset, skip_bad=True)) for cell in cells]  # type: ignore[type-var]


def home_folder() -> Path:
    """Where results are kept."""
    named = os.environ.get("ECGBENCH_HOME")
    return Path(named) if named else Path(platformdirs.user_cache_dir("ecgbench"))


def data_root(places: Mapping[str, Path]) -> DataRoot:
    """Where recordings are looked for, and cached: $ECGBENCH_DATA and $ECGBENCH_CACHE, or the home folder."""
    data, cache = os.environ.get("ECGBENCH_DATA"), os.environ.get("ECGBENCH_CACHE")
    return DataRoot(
        home=Path(data) if data else home_folder() / "data",
        places=places,
        cache=Path(cache) if cache else home_folder() / "cache",
    )


def _several(given: Any) -> tuple[Any, ...]:
    """One value or many as a tuple; a string is one."""
    return tuple(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes) else (given,)


def _value(catalog: Catalog, kind: str, given: Any, of: type) -> Any:
    """A selector's value, or the value that was given. Raises EcgbenchError for anything else."""
    if isinstance(given, str):
        return catalog.resolve(kind, given)
    try:
        return Reader().read(given, of)
    except MisfitError:
        raise EcgbenchError(misfit("evaluate", kind, of, shown(given))) from None


def _offered_by(catalog: Catalog, attack: Attack) -> str:
    try:
        return catalog.offered_by("attack", attack)
    except EcgbenchError:
        return LOCAL


def _tensor(name: str, given: ArrayLike | Tensor, kind: torch.dtype) -> Tensor:
    try:
        tensor = given.detach().cpu() if isinstance(given, Tensor) else torch.from_numpy(np.array(given))
    except (TypeError, ValueError) as fault:
        raise EcgbenchError(f"{name} holds no table of numbers ({fault}).") from None
    return tensor.to(kind)


def _numbered(victim: Victim, samples: Samples) -> tuple[str, ...]:
    """Class names "0", "1", ... by the width of the logits."""
    with torch.no_grad():
        one = samples[:1].to(victim.device)
        width = victim.logits(one.x, one, Keyed(("width",))).shape[1]
    return tuple(str(label) for label in range(width))


def _digest(samples: Samples) -> str:
    parts = {"x": samples.x, "y": samples.y, "mask": samples.mask}
    return hashlib.sha256(pack_tensors(parts | ({} if samples.group is None else {"group": samples.group}))).hexdigest()
