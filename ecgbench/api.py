"""ecgbench from Python: the records of a suite, and a verdict on a model that somebody already has."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import platformdirs
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ecgbench.core.ambient import find_device, standard_settings
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.interfaces import Attack
from ecgbench.core.progress import Progress
from ecgbench.core.threat import Threat
from ecgbench.evaluation.guard import generators_kept
from ecgbench.evaluation.sweep import STANDARD, Protocol
from ecgbench.registry.catalog import Catalog, discover
from ecgbench.results.record import Record
from ecgbench.runs.cell import Cell
from ecgbench.runs.judging import EvaluationRequest, judged, several
from ecgbench.runs.runner import Runner
from ecgbench.runs.suite import Grid, parse_eps, parse_seeds, read_suite, unfold
from ecgbench.runs.zoo import checkpoints
from ecgbench.storage.opening import is_url, open_store
from ecgbench.storage.store import Store
from ecgbench.user import opened, signals_and_labels, task_of

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
    leaderboard: str | Path | None = None,
    isolate: bool = False,
    jobs: int | None = None,
    tell: Callable[[Progress], None] = lambda _: None,
) -> list[Record]:
    """Run a suite file, or the grid of all combinations of the selectors given; the records, in order.

    Selectors and defaults are those of the command line; `data` maps a dataset's name to its folder; `audit` makes
    the costly checks, too; `skip_bad_records` leaves out damaged recordings, named in the records; published victims of
    `leaderboard` are used instead of a training. With `isolate` every victim and every cell has a process of its own,
    `jobs` at once (by default one for each core), so that a plugin that crashes ends no other cell. Raises
    EcgbenchError for what cannot be planned, DataError and StoreError for recordings and a machine that do not let it
    run; a cell that fails gives a record whose `status` says so.
    """
    if jobs is not None and (not isolate or jobs < 1):
        raise EcgbenchError(f"jobs={jobs} and isolate={isolate} given; expected 1 or more, and isolate=True.")
    runner = open_runner(
        data=data or {}, store=store, device=device, plugins=plugins, leaderboard=leaderboard, tell=tell
    )
    if suite is not None:
        chosen = (model, attack, defense, dataset, threat, several(eps), seed, limit, protocol, audit)
        if chosen != ((), (), "none", (), (), (), 0, None, "standard", False):
            raise EcgbenchError("a suite and selectors were both given; expected one of them.")
        grids = read_suite(Path(suite))
    else:
        grids = (
            Grid(
                model=several(model),
                attack=several(attack),
                defense=several(defense),
                dataset=several(dataset),
                threat=several(threat),
                eps=parse_eps(several(eps)),
                seed=parse_seeds(map(str, several(seed))),
                limit=limit,
                protocol=protocol,
                audit=audit,
            ),
        )
    with standard_settings():
        cells = unfold(grids, runner.catalog)
        if skip_bad_records:
            cells = skipping_bad(cells, runner.catalog)
        runner.find(cells)
        return _isolated(runner, cells, jobs) if isolate else [runner.execute(cell) for cell in cells]


def _isolated(runner: Runner, cells: Sequence[Cell], jobs: int | None) -> list[Record]:
    from ecgbench.engine import Engine, Limits, Listener, Local, most_memory

    engine = Engine(runner, Listener(runner.tell), Local(jobs, Limits(memory=most_memory())))
    found = {cell.number: cell.record for cell in engine.run(cells)}
    return [found[number] for number in range(len(cells))]


def evaluate(
    module: Any,
    x: Any,
    y: Any = None,
    *,
    threat: Threat | str = "linf",
    eps: float | str | Sequence[float | str],
    attack: Attack | str = "strict",
    bounds: tuple[float, float] | None = None,
    mask: ArrayLike | Tensor | None = None,
    group: Any = None,
    classes: Sequence[str] | None = None,
    headline: float | None = None,
    seed: int = 0,
    protocol: Protocol | str = STANDARD,
    audit: bool = False,
    device: str | torch.device | None = None,
    tell: Callable[[Progress], None] | None = None,
) -> Record:
    """How robust is `module`? It maps x (n, *shape) to logits (n, classes) and is left as it was.

    `module` is a torch module in any floating type, a function of tensors, or a fitted classifier of scikit-learn's
    kind; what it returns is read by `read_logits`. `x` are numbers, rounded to float32; `y` (n,) labels from 0, or
    names among `classes` (of a classifier: its own labels). A DataLoader of (x, y, ...) may stand for both. `mask`
    (n, ...), broadcastable to x, is True where an attack may write; `group` (n,) the patient of each sample, a number
    or a name; `bounds` the valid range of x. `attack`, `threat` and `protocol` are selectors or values, also of classes
    that no plugin offers. `headline` is the one of `eps` that the checks look at, the largest by default; `audit`
    makes the costly checks, too, but for those that need an undefended victim. `device` is where it is done: by default
    where the module is. Scores are plain: every sample counts once.

    Raises EcgbenchError for bad input, before anything runs, and for a module or attack that fails.
    """
    default = torch.get_default_dtype()
    with standard_settings(), generators_kept():
        request = EvaluationRequest.of(threat, attack, protocol, eps, headline, seed, audit)
        place = None if device is None else find_device(device)
        x, y = signals_and_labels(x, y, ordered=mask is not None or group is not None)
        with opened(module, place, default) as model:
            task = task_of(model, x, y, mask, group, classes, bounds)
            return judged(model, task, request, tell)


def open_runner(
    *,
    data: Mapping[str, str | Path],
    store: str | Path | None,
    device: str,
    plugins: Sequence[str],
    leaderboard: str | Path | None = None,
    tell: Callable[[Progress], None],
    say: Callable[[str], None] = lambda _: None,
    retrain: bool = False,
) -> Runner:
    """The runner of this machine: results where `kept_in` finds them, recordings where `data_root` does.

    Published victims are looked for in `leaderboard`, see `zoo.checkpoints`.
    """
    catalog = discover(tuple(plugins))
    for name in data:
        catalog.lookup("dataset", name)
    find_device(device)
    root = data_root({name: Path(place) for name, place in data.items()})
    folder = checkpoints(leaderboard)
    published = None if folder is None else Store(folder, say)
    kept = kept_in(store, say)
    return Runner(catalog, root, kept, device=device, tell=tell, retrain=retrain, checkpoints=published)


def skipping_bad(cells: Sequence[Cell], catalog: Catalog) -> list[Cell]:
    """The cells, with every dataset told to leave out damaged recordings by its parameter `skip_bad`.

    Raises EcgbenchError for a dataset that has no such parameter.
    """
    for cell in cells:
        if not hasattr(cell.dataset, "skip_bad"):
            name = catalog.canonical("dataset", cell.dataset)
            raise EcgbenchError(f"damaged recordings of {name} cannot be skipped: it has no parameter skip_bad.")
    return [replace(cell, dataset=replace(cell.dataset, skip_bad=True)) for cell in cells]  # type: ignore[type-var]


def kept_in(store: str | Path | None, say: Callable[[str], None] = lambda _: None) -> Store:
    """The store of results: in `store`, else in $ECGBENCH_HOME, each a folder or s3://bucket/prefix.

    Where neither is named, in the user's cache. What is unfinished stays on this machine. Raises EcgbenchError for
    another URL, StoreError for a bucket that cannot be read.
    """
    home = (os.environ.get("ECGBENCH_HOME") or home_folder()) if store is None else store
    return open_store(f"{home}/store" if is_url(home) else Path(home) / "store", home_folder(), say)


def home_folder() -> Path:
    """The folder of this machine's own files: $ECGBENCH_HOME where that is a folder, else the user's cache."""
    named = os.environ.get("ECGBENCH_HOME")
    return Path(named) if named and not is_url(named) else Path(platformdirs.user_cache_dir("ecgbench"))


def data_root(places: Mapping[str, Path]) -> DataRoot:
    """Where recordings are looked for, and cached: $ECGBENCH_DATA and $ECGBENCH_CACHE, or the home folder."""
    data, cache = os.environ.get("ECGBENCH_DATA"), os.environ.get("ECGBENCH_CACHE")
    return DataRoot(
        home=Path(data) if data else home_folder() / "data",
        places=places,
        cache=Path(cache) if cache else home_folder() / "cache",
    )
