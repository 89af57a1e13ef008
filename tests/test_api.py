"""From Python: `run` gives the records of the command line, `evaluate` judges a module and leaves it alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import BatchNorm1d, Dropout, Flatten, Module, Sequential, Softmax
from torch.nn import Linear as Layer

import ecgbench as package
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import DataError, EcgbenchError
from ecgbench.core.progress import Epoch, Progress, Started, SweepProgress
from ecgbench.core.threat import Threat
from ecgbench.evaluation.sweep import Protocol
from ecgbench.results.record import Record
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.datasets.synthetic_beats import SyntheticBeats
from tests.command_line import BEATS, TINY, ecgbench, environment
from tests.problems import Linear, linear_problem, random_mlp, reach, size_for

GRID: dict[str, Any] = {
    "dataset": BEATS,
    "model": "linear",
    "defense": "none[epochs=1]",
    "attack": ("fgsm", "identity"),
}
SELECTORS = (*TINY, "--attack", "fgsm", "--attack", "identity")


def records(answer: list[Record]) -> str:
    """As `run --json` prints them."""
    return "".join(record.json().decode() + "\n" for record in answer)


def without_seconds(record: Record) -> Record:
    return msgspec.structs.replace(record, cost=msgspec.structs.replace(record.cost, train_seconds=0, attack_seconds=0))


# run


def test_run_gives_the_records_that_the_command_line_prints(tmp_path: Path) -> None:
    told: list[Progress] = []
    found = package.run(**GRID, eps=(0.03, "8/255"), seed=(0, 1), store=tmp_path, tell=told.append)
    assert [record.status for record in found] == ["ok"] * 4
    assert {type(each) for each in told} == {Started, Epoch, SweepProgress}
    answer = ecgbench(tmp_path, "run", *SELECTORS, "--eps", "0.03,8/255", "--seed", "0,1", "--json")
    assert answer.out == records(found)


def test_run_twice_tells_nothing_and_answers_the_same(tmp_path: Path) -> None:
    told: list[Progress] = []
    first = package.run(**GRID, eps=(0.1,), store=tmp_path)
    assert package.run(**GRID, eps=(0.1,), store=tmp_path, tell=told.append) == first and not told


def test_run_reads_a_suite_and_nothing_beside_it(tmp_path: Path) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(f'[[grid]]\ndataset = "{BEATS}"\nmodel = "linear"\nattack = "fgsm"\ndefense = "none[epochs=1]"\n')
    (record,) = package.run(suite, store=tmp_path)
    assert record == package.run(**{**GRID, "attack": "fgsm"}, store=tmp_path)[0]
    given: dict[str, Any]
    for given in (
        {"model": "mlp"},
        {"seed": 1},
        {"defense": "adaptive"},
        {"limit": 9},
        {"protocol": "standard[success=last]"},
    ):
        with pytest.raises(EcgbenchError, match="a suite and selectors were both given"):
            package.run(suite, store=tmp_path, **given)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"model": "liner"}, "did you mean 'linear'"),
        ({"model": ()}, "no model is given"),
        ({"seed": -1}, "seed '-1' given"),
        ({"seed": ()}, "no seed is given"),
        ({"eps": (-0.1,)}, "eps -0.1 given"),
        ({"limit": 0}, "limit 0 given"),
        ({"data": {"mitbit": "."}}, "no dataset is named 'mitbit'; did you mean 'mitbih'"),
        ({"device": "cuda:99x"}, "device 'cuda:99x' is not there"),
        ({"plugins": ("nowhere_at_all",)}, "plugin 'nowhere_at_all' is refused"),
        ({"attack": "pgd", "threat": "l2"}, "given without eps"),
        ({"seed": True}, "seed 'True' given; expected a whole number of 0 or more"),
        ({"seed": 1.5}, "seed '1.5' given"),
        ({"seed": [0, "a"]}, "seed 'a' given"),
        ({"limit": 2.5}, "limit expects a whole number or none; got 2.5"),
        ({"limit": "5"}, "limit expects a whole number or none; got '5'"),
        ({"limit": True}, "limit expects a whole number or none; got True"),
        ({"audit": "no"}, "audit expects true or false; got no"),
        ({"protocol": Protocol()}, "protocol expects a word or a string; got Protocol("),
        ({"model": PGD()}, "model expects a tuple, each item a word or a string; got (PGD("),
        ({"model": None}, "model expects a tuple, each item a word or a string; got (None,)"),
        ({"eps": True}, "eps True given; expected a number such as 0.05 or 8/255"),
        ({"eps": "a"}, "eps 'a' given"),
        ({"eps": [0.1, None]}, "eps None given"),
        ({"eps": 1e39}, "eps 1e+39 given; expected a finite number above 0"),
    ],
)
def test_run_refuses_in_one_sentence_what_cannot_be_planned(given: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(EcgbenchError) as refused:
        package.run(**{**GRID, **given}, store=tmp_path)
    assert reason in str(refused.value) and not list(tmp_path.iterdir())


def test_one_value_may_stand_for_a_list_of_one(tmp_path: Path) -> None:
    grid = {**GRID, "attack": "fgsm"}
    (once,) = package.run(**{**grid, "eps": [0.05], "seed": [3]}, store=tmp_path)
    for eps, seed in ((0.05, 3), ("0.05", "3"), (np.float64(0.05), np.int64(3)), (np.array([0.05]), range(3, 4))):
        assert package.run(**{**grid, "eps": eps, "seed": seed}, store=tmp_path) == [once]


def test_a_cell_whose_threat_cannot_be_carried_out_fails_before_anything_is_trained(tmp_path: Path) -> None:
    grid = {**GRID, "attack": "fgsm"}
    for threat, reason in (
        ("linf[source_classes=(N),target=N]", "the only source class"),
        ("linf", "too small for float32"),
    ):
        (record,) = package.run(**{**grid, "threat": threat, "eps": 1e-9}, store=tmp_path)
        assert record.status == "failed" and reason in str(record.error)
    assert not list(tmp_path.glob("store/victims/*"))


def test_a_run_on_the_validation_split_is_a_row_of_its_own(tmp_path: Path) -> None:
    grid: dict[str, Any] = {"model": "linear", "defense": "none[epochs=1]", "attack": "fgsm", "dataset": BEATS}
    (val,), (test,) = (
        package.run(**grid, eps=0.01, store=tmp_path, protocol=f"standard[split={split}]") for split in ("val", "test")
    )
    task = SyntheticBeats(beats=200).load(DataRoot())
    for record, samples in ((val, task.val), (test, task.test)):
        assert record.status == "ok" and sum(record.counts.values()) == len(samples)
    assert (val.protocol, test.protocol) == ("standard[split=val]", "standard") and val.key != test.key
    assert len(list(tmp_path.glob("store/victims/*"))) == 1


NAMES = """
import ecgbench, ecgbench.api, ecgbench.cli, ecgbench.cli.run, ecgbench.runs.runner, ecgbench.testing, ecgbench_plugins
assert callable(ecgbench.run) and ecgbench.run is ecgbench.api.run
assert callable(ecgbench.evaluate) and ecgbench.evaluate is ecgbench.api.evaluate
assert {"Attack", "evaluate", "hookimpl", "load_victim", "run"} <= set(ecgbench.__all__) <= set(dir(ecgbench))
"""


def test_run_stays_a_function_whatever_else_is_imported(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", NAMES], check=True, env=environment(tmp_path), cwd=tmp_path)


# evaluate


def test_five_lines_judge_a_module() -> None:
    module = Sequential(Flatten(), Layer(24, 3))
    x, y = torch.rand(100, 1, 24), torch.randint(3, (100,))
    record = package.evaluate(module, x, y, eps=[0.01, 0.1], attack="pgd20", bounds=(0, 1))
    assert record.status == "ok" and [score.eps for score in record.scores] == [0, 0.01, 0.1]
    assert record.scores[0].acc == float((module(x).argmax(1) == y).double().mean())


def judged(problem: Linear, threat: Threat, eps: float, **given: Any) -> Record:
    test, task = problem.task.test, problem.task
    return package.evaluate(
        problem.victim.module,
        test.x,
        test.y,
        mask=test.mask,
        bounds=task.bounds,
        threat=threat,
        eps=[eps],
        **given,
    )


@pytest.mark.parametrize(
    "threat", [Threat("linf"), Threat("l2"), Threat("linf", mask=False), Threat("l2", bounds=False)]
)
def test_the_score_is_the_exact_one_of_a_linear_module(threat: Threat) -> None:
    problem = linear_problem(n=500, shape=(1, 24), masked=True, bounds=(0.0, 1.0))
    eps = size_for(problem, threat, 0.5)
    exact = float((reach(problem, threat, eps) <= 0).mean())
    found = judged(problem, threat, eps, attack=PGD(steps=20, rel_step=0.25, loss="margin")).scores[-1].acc
    assert 0.2 < exact < 0.8 and exact <= found <= exact + 0.01


def test_a_module_of_ones_own_and_its_arrays_are_left_as_they_were() -> None:
    norm, last = BatchNorm1d(24).eval(), Layer(24, 3)
    module = Sequential(Flatten(), norm, Dropout(0.5), last)
    last.bias.requires_grad_(False)
    last.weight.grad = torch.ones_like(last.weight)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    x, y = np.random.default_rng(0).random((64, 1, 24)), np.arange(64) % 3
    kept = x.copy(), y.copy()
    generator = torch.random.get_rng_state()
    package.evaluate(module, x, y, eps=[0.1], attack="pgd[steps=3]")
    assert [part.training for part in module] == [True, False, True, True]
    assert [each.requires_grad for each in module.parameters()] == [True, True, True, False]
    assert last.weight.grad.eq(1).all() and norm.weight.grad is None
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert np.array_equal(x, kept[0]) and np.array_equal(y, kept[1])
    assert torch.equal(torch.random.get_rng_state(), generator)


def test_a_module_that_fails_is_left_as_it_was_too() -> None:
    class Fails(Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("no")

    module = Fails().train()
    with pytest.raises(EcgbenchError, match=r"Fails cannot be asked about x of shape \(3, 1, 8\).*RuntimeError: no"):
        package.evaluate(module, torch.rand(4, 1, 8), [0, 1, 0, 1], eps=[0.1])
    assert module.training


def test_arrays_lists_and_tensors_give_one_record() -> None:
    task, victim = random_mlp(n=40)
    x, y = task.test.x, task.test.y
    given: list[Any] = [
        (x, y),
        (x.numpy(), y.numpy()),
        (x.double(), y.int()),
        (x.tolist(), y.tolist()),
        (x.requires_grad_(), y),
    ]
    found = [package.evaluate(victim.module, *each, eps=[0.05], attack="pgd[steps=3]") for each in given]
    assert all(without_seconds(record) == without_seconds(found[0]) for record in found)


def test_a_record_of_evaluate_says_what_was_given() -> None:
    task, victim = random_mlp(n=60)
    group = np.arange(60) // 6
    record = package.evaluate(
        victim.module, task.test.x, task.test.y, eps=[8 / 255, 0.01], attack="pgd[steps=3]", group=group,
        classes=("N", "S", "V"), seed=4, headline=0.01, threat="linf[mask=off]",
    )  # fmt: skip
    assert (record.dataset, record.model, record.defense) == ("given", "Sequential", "given")
    assert (record.attack, record.threat, record.seed) == ("pgd[steps=3]", "linf[mask=false]", 4)
    assert (record.eps, record.headline) == ((0.01, 8 / 255), 0.01)
    assert (record.n, record.groups, record.classes) == (60, 10, ("N", "S", "V"))
    assert sum(record.counts.values()) == 60 and record.uncertainty is not None
    assert record.uncertainty.method == "bootstrap over 10 groups"
    assert record.provenance is not None and "attack" in record.provenance.plugins


def test_the_mask_keeps_the_attack_out() -> None:
    task, victim = random_mlp(n=60)
    closed = torch.zeros_like(task.test.x, dtype=torch.bool)
    closed[0, ..., 0] = True  # one value of one sample
    record = package.evaluate(victim.module, task.test.x, task.test.y, mask=closed, eps=[0.5], attack="pgd20")
    assert record.scores[0].acc > 0.5 and record.scores[0].acc - record.scores[1].acc in (0, pytest.approx(1 / 60))


def test_probabilities_instead_of_logits_are_flagged() -> None:
    task, victim = random_mlp(n=60)
    shown = Sequential(victim.module, Softmax(1))
    record = package.evaluate(shown, task.test.x, task.test.y, eps=[0.05], attack="pgd20")
    assert "PROB" in record.flags


def test_what_changes_the_result_changes_the_key() -> None:
    task, victim = random_mlp(n=30)
    x, y = task.test.x, task.test.y
    base: dict[str, Any] = {"eps": [0.05, 0.1], "attack": "pgd[steps=2]"}
    other = Sequential(victim.module, Layer(3, 3))
    given: list[tuple[Module, Tensor, Tensor, dict[str, Any]]] = [
        (victim.module, x, y, {}),
        (other, x, y, {}),
        (victim.module, x / 2, y, {}),
        (victim.module, x, (y + 1) % 3, {}),
        (victim.module, x, y, {"mask": x > 0.5}),
        (victim.module, x, y, {"group": torch.arange(30) % 7}),
        (victim.module, x, y, {"bounds": (0, 1)}),
        (victim.module, x, y, {"bounds": (0, 2)}),
        (victim.module, x, y, {"headline": 0.05}),
        (victim.module, x, y, {"seed": 1}),
        (victim.module, x, y, {"threat": "linf[mask=off]"}),
        (victim.module, x, y, {"attack": "pgd[steps=3]"}),
        (victim.module, x, y, {"eps": [0.1]}),
    ]
    keys = [package.evaluate(module, x, y, **{**base, **more}).key for module, x, y, more in given]
    assert len(set(keys)) == len(keys)
    assert package.evaluate(victim.module, x, y, **base).key == keys[0]


X, Y = torch.rand(6, 1, 8), torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"eps": []}, "no eps is given"),
        ({"protocol": "standard[split=val]"}, "a protocol with split=val is given; expected test"),
        ({"eps": [0]}, "eps 0 alone"),
        ({"eps": [-0.1]}, "eps -0.1 given"),
        ({"eps": [float("nan")]}, "eps nan given"),
        ({"attack": "pdg"}, "did you mean 'pgd'"),
        ({"threat": "l3"}, "no threat is named 'l3'"),
        ({"attack": "pgd[update=adamax]", "threat": "l2"}, "needs update=plain"),
        ({"headline": 0.2}, "headline 0.2 is given"),
        ({"x": X.where(X < 0.9, torch.nan)}, "not finite"),
        ({"y": Y[:-1]}, "x has 6 rows for 5 labels"),
        ({"y": Y + 1}, "a label lies outside 0..2"),
        ({"y": torch.nn.functional.one_hot(Y)}, "y has shape (6, 3)"),
        ({"x": X[:0], "y": Y[:0]}, "y has shape (0,)"),
        ({"y": ["N", "S", "V", "N", "S", "V"]}, "y holds names such as 'N'; expected classes="),
        ({"x": [[1.0], [1.0, 2.0]]}, "x holds no table of numbers"),
        ({"bounds": (0, 0.5)}, "leaves the stated range"),
        ({"mask": torch.ones(6, 1, 7) > 0}, "does not fit x"),
        ({"group": torch.arange(5)}, "group has 5 rows for 6 labels"),
        ({"threat": Threat("linf", target="9")}, "no class is named '9'"),
        ({"threat": Threat("linf", unit="mV")}, "eps cannot be read in 'mV'"),
        ({"module": torch.nn.Flatten(0)}, "expected logits of shape (3, classes)"),
        ({"classes": ("a", "b")}, "a label lies outside 0..1"),
        ({"threat": 2}, "evaluate: threat expects a threat; got 2"),
        ({"threat": Threat}, "evaluate: threat expects a threat; got <class"),
        ({"attack": PGD}, "evaluate: attack expects an attack; got <class"),
        ({"attack": None}, "evaluate: attack expects an attack; got None"),
        ({"protocol": "standrd"}, "did you mean 'standard'"),
        ({"protocol": None}, "evaluate: protocol expects a protocol; got None"),
        ({"seed": True}, "seed 'True' given; expected a whole number of 0 or more"),
        ({"seed": -1}, "seed '-1' given"),
        ({"seed": [0, 1]}, "seed '[0, 1]' given"),
        ({"eps": True}, "eps True given"),
        ({"eps": [0.1, "x"]}, "eps 'x' given"),
        ({"eps": [1e39]}, "eps 1e+39 given"),
        ({"headline": "x"}, "eps 'x' given"),
        ({"eps": 1e-9}, "eps 1e-09 is too small for float32"),
        ({"x": X * 3000, "eps": [1e-5]}, "rounding changes a perturbation by"),
        ({"mask": torch.zeros(6, 1, 8) > 0}, "mask and bounds leave no value of any sample to change"),
        (
            {"threat": Threat("linf", target="1"), "y": torch.ones(6, dtype=torch.int64)},
            "all 6 test samples are of the target",
        ),
        (
            {"threat": Threat("linf", source_classes=("2",), target="1"), "y": Y % 2},
            "none of the 6 test samples is of class 2",
        ),
    ],
    ids=lambda each: "" if isinstance(each, dict) else each,
)
def test_evaluate_refuses_in_one_sentence(given: dict[str, Any], reason: str) -> None:
    whole = {"module": Sequential(Flatten(), Layer(8, 3)), "x": X, "y": Y, "eps": [0.1], **given}
    with pytest.raises(EcgbenchError) as refused:
        package.evaluate(whole.pop("module"), whole.pop("x"), whole.pop("y"), **whole)
    assert reason in str(refused.value) and "\n" not in str(refused.value)
    if "finite" in reason:
        assert isinstance(refused.value, DataError)


def test_evaluate_takes_one_eps_and_a_protocol_by_name() -> None:
    module = Sequential(Flatten(), Layer(8, 3))
    one = package.evaluate(module, X, Y, eps=0.1, protocol="standard[success=last]", seed=np.int64(2), headline="1/10")  # type: ignore[arg-type]
    other = package.evaluate(module, X, Y, eps=["0.1"], protocol=Protocol(success="last"), seed=2)
    assert (
        msgspec.structs.replace(one, cost=other.cost) == other
        and one.protocol == "standard[success=last]"
        and one.seed == 2
    )


class Constant(Module):
    """Answers the same logits to everybody."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor(logits))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits + 0 * x.flatten(1).sum(1, keepdim=True)


def test_a_victim_that_looks_at_nothing_is_flagged() -> None:
    x, y = torch.rand(40, 1, 8), torch.arange(40) % 2
    same = package.evaluate(Constant(1.0, 0.0), x, y, eps=[0.1], bounds=(0, 1))
    assert same.scores[1].acc == 0.5 and {"ONECLASS", "CHANCE"} <= set(same.flags)
    equal = package.evaluate(Constant(1.0, 1.0), x, y, eps=[0.1], bounds=(0, 1))
    assert equal.scores[0].acc == equal.scores[1].acc == 0.0 and "CHANCE" in equal.flags


def test_rounded_logits_gain_nothing_by_their_ties() -> None:
    """Each coarser rounding keeps at most what the finer one keeps clean, and a tie is never right."""
    problem = linear_problem(3, n=200)
    task, victim = problem.task, problem.victim
    x, y = task.test.x, task.test.y

    class Rounded(Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.round(victim.module(x))

    logits = Rounded()(x)
    strictly = (logits.gather(1, y[:, None]) > logits.scatter(1, y[:, None], -torch.inf)).all(1)
    record = package.evaluate(Rounded(), x, y, eps=[0.01], attack="identity")
    assert bool(((logits == logits.amax(1, keepdim=True)).sum(1) > 1).any())
    assert record.scores[0].acc == record.scores[1].acc == float(strictly.double().mean())


def test_an_attack_that_no_plugin_offers_is_judged_under_its_own_name() -> None:
    from tests.runs.test_runner import Marked

    record = package.evaluate(Sequential(Flatten(), Layer(8, 3)), X, Y, eps=[0.1], attack=Marked())
    assert (record.status, record.attack) == ("ok", "Marked(fault='none')")
    assert record.provenance is not None and record.provenance.plugins == {"attack": "local"}


def test_an_attack_that_needs_a_second_victim_is_refused() -> None:
    from tests.runs.test_runner import Borrowed

    with pytest.raises(EcgbenchError, match="needs a second victim"):
        package.evaluate(Sequential(Flatten(), Layer(8, 3)), X, Y, eps=[0.1], attack=Borrowed())


def test_evaluate_agrees_with_run_on_the_victim_that_run_trained(tmp_path: Path) -> None:
    from ecgbench.api import open_runner
    from ecgbench.runs.suite import Grid, unfold

    runner = open_runner(data={}, store=tmp_path, device="cpu", plugins=(), tell=lambda _: None)
    grid = Grid(model=("linear",), attack=("pgd20",), defense=("none[epochs=1]",), dataset=(BEATS,), eps=(0.03, 0.1))
    (cell,) = unfold((grid,), runner.catalog)
    record, task = runner.execute(cell), runner.task(cell.dataset)
    module = runner.victim(cell.victim).victim.module
    test = task.test
    again = package.evaluate(
        module, test.x, test.y, mask=test.mask, group=test.group, bounds=task.bounds, classes=task.classes,
        eps=[0.03, 0.1], attack=replace(PGD(), steps=20, rel_step=0.25),
    )  # fmt: skip
    assert again.scores == record.scores and again.curve == record.curve
