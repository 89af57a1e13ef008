"""`evaluate` meets real models: each works and is left as it was, or gets one sentence before anything runs."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import BatchNorm1d, Dropout, Flatten, LazyLinear, Linear, Module, ReLU, Sequential
from torch.utils.data import DataLoader, TensorDataset

import ecgbench as package
from ecgbench.core.errors import ContractError, EcgbenchError
from ecgbench.core.fingerprint import fingerprint
from ecgbench.core.interfaces import Attack
from ecgbench.core.outputs import SingleLabel
from ecgbench.core.random import RandomStream
from ecgbench.core.trial import Trial
from ecgbench.results.record import Record, read_record

GENERATOR = torch.Generator().manual_seed(5)
X = torch.rand(48, 1, 6, generator=GENERATOR)
LAYER = Linear(6, 3)
NET = Sequential(Flatten(), LAYER)
with torch.no_grad():
    LAYER.weight.copy_(torch.eye(3, 6) * 2)
    LAYER.bias.zero_()
Y = NET(X).argmax(1)
FAST: dict[str, Any] = {"eps": [0.1], "bounds": (0, 1), "attack": "pgd[steps=10,rel_step=0.25,loss=margin]"}


def accuracies(record: Record) -> list[float]:
    return [score.acc for score in record.scores]


PLAIN = accuracies(package.evaluate(NET, X, Y, **FAST))


class Wrapped(Module):
    def __init__(self, change: Callable[[Tensor], Any], base: Module = NET) -> None:
        super().__init__()
        self.base, self.change = base, change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.base(x))


class InPlace(Module):
    def forward(self, x: Tensor) -> Any:
        x.mul_(2).sub_(1)
        return NET((x + 1) / 2)


class OfCaller:
    """An object with a call, and a module inside."""

    def __init__(self) -> None:
        self.net = NET

    def __call__(self, x: Tensor) -> Tensor:
        return self.net(x)


def doubled() -> Module:
    net = Sequential(Flatten(), Linear(6, 3)).double()
    net[1].load_state_dict({name: value.double() for name, value in NET[1].state_dict().items()})
    return net


# what a model is and what it returns


def test_the_victim_of_these_tests_is_moved_by_the_attack() -> None:
    assert PLAIN[0] == 1 and 0.1 < PLAIN[1] < 0.9


@pytest.mark.parametrize(
    "model",
    [
        Wrapped(lambda z: (z, None)),
        Wrapped(lambda z: {"logits": z, "features": z[:, :2]}),
        Wrapped(lambda z: SimpleNamespace(logits=z)),
        Wrapped(lambda z: z[:, :, None]),
        Wrapped(lambda z: z[None]),
        Wrapped(lambda z: z.squeeze()),
        Wrapped(lambda z: z.double()),
        lambda x: NET(1 * x),
        NET.forward,
        partial(nn.Module.__call__, NET),
        OfCaller(),
        InPlace(),
        doubled(),
    ],
    ids=lambda model: type(model).__name__,
)
def test_the_same_function_is_judged_alike_whatever_it_is_wrapped_in(model: Any) -> None:
    record = package.evaluate(model, X, Y, **FAST)
    assert accuracies(record) == PLAIN and record.flags == ()


@pytest.mark.filterwarnings("ignore")  # torch calls some of these deprecated
def test_scripted_and_compiled_modules_are_judged_alike() -> None:
    traced = torch.jit.trace(NET, X[:2])
    for model in (traced, torch.jit.freeze(traced.eval()), torch.compile(NET, backend="eager")):
        record = package.evaluate(model, X, Y, **FAST)
        assert accuracies(record) == PLAIN and not record.notes


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16])
def test_a_module_is_asked_in_the_type_of_its_weights(kind: torch.dtype) -> None:
    seen: set[torch.dtype] = set()

    def note(x: Tensor) -> Tensor:
        seen.add(x.dtype)
        return x

    net = Sequential(Flatten(), Linear(6, 3)).to(kind)
    net[1].load_state_dict({name: value.to(kind) for name, value in NET[1].state_dict().items()})
    record = package.evaluate(Wrapped(note, net), X, Y, **FAST)
    assert seen == {kind} and {weight.dtype for weight in net.parameters()} == {kind}
    assert abs(record.scores[1].acc - PLAIN[1]) < 0.1
    assert record.notes == (f"the module computes in {kind}: x is cast to it, its logits to float32",)


def test_a_single_logit_is_read_as_two_classes() -> None:
    one = Sequential(Flatten(), Linear(6, 1))
    with torch.no_grad():
        one[1].bias -= one(X).median() + 1e-3  # nobody at 0
    y = (one(X)[:, 0] > 0).long()
    two = Wrapped(lambda z: torch.cat([torch.zeros_like(z), z], 1), one)
    for model in (one, Wrapped(lambda z: z[:, 0], one), Wrapped(lambda z: (z, z), one), Wrapped(torch.squeeze, one)):
        for names in (None, ["normal", "AF"]):
            record = package.evaluate(model, X, y, **FAST, classes=names)
            assert accuracies(record) == accuracies(package.evaluate(two, X, y, **FAST)) and record.scores[0].acc == 1
            assert len(record.classes) == 2 and "one logit z a sample, read as (0, z)" in record.notes
    assert package.evaluate(one, X, y, **FAST, audit=True).audited


def test_a_single_probability_is_flagged() -> None:
    one = Sequential(Flatten(), Linear(6, 1), nn.Sigmoid())
    assert "PROB" in package.evaluate(one, X, torch.arange(48) % 2, **FAST).flags


@pytest.mark.parametrize(
    ("model", "y", "classes", "reason"),
    [
        (Sequential(Flatten(), Linear(6, 1)), Y, list("NSV"), "expected logits of shape (3, 3), got (3, 1)"),
        (Sequential(Flatten(), Linear(6, 2)), Y, list("NSVFQ"), "expected logits of shape (3, 5), got (3, 2)"),
        (Sequential(Flatten(), Linear(6, 4)), Y, list("NSV"), "expected logits of shape (3, 3), got (3, 4)"),
        (Sequential(Flatten(), Linear(6, 1)), 0 * Y, None, "one class is no classification"),
        (Sequential(Flatten(), Linear(6, 1)), Y, None, "a label lies outside 0..1: 2 at sample"),
        (Wrapped(lambda z: z.argmax(1)), Y, None, "got (3,) of torch.int64"),
        (Wrapped(lambda z: [z, z[:, :2]]), Y, None, "got a list of (3, 3), (3, 2)"),
        (Wrapped(lambda z: None), Y, None, "got a value of type NoneType"),
        (Linear, Y, None, "the model is the class Linear; expected a module"),
        ("net.pt", Y, None, "the model is of type str"),
        (None, Y, None, "the model is of type NoneType"),
        (LazyLinear(3), Y, None, "has weights that were never set"),
        (Linear(7, 3), Y, None, "cannot be asked about x of shape (3, 1, 6) torch.float32: RuntimeError"),
        (lambda: None, Y, None, "TypeError"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_judged_is_refused_before_the_attack(
    model: Any, y: Tensor, classes: Any, reason: str
) -> None:
    with pytest.raises(EcgbenchError) as refused:
        package.evaluate(model, X, y, eps=[0.1], attack=Never(), classes=classes)
    assert reason in str(refused.value) and "\n" not in str(refused.value)


class Never(Attack):
    """An attack that must not be reached."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        raise AssertionError("the attack ran")


def test_what_fails_under_attack_is_one_sentence() -> None:
    with pytest.raises(EcgbenchError, match=r"Sequential or .*Never.* failed: AssertionError: the attack ran"):
        package.evaluate(NET, X, Y, eps=[0.1], attack=Never())


# gradients


class NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        return z.clone()

    @staticmethod
    def backward(ctx: Any, *oracle: Tensor) -> Tensor:
        raise RuntimeError("no such derivative")


@pytest.mark.parametrize(
    "model",
    [
        Wrapped(lambda z: z.detach()),
        Wrapped(lambda z: z.detach().numpy()),
        lambda x: NET(torch.from_numpy(x.numpy())),
        Wrapped(lambda z: nn.functional.one_hot(z.argmax(1), 3).float()),
        Wrapped(NoBackward.apply),
    ],
)
@pytest.mark.parametrize("attack", ["pgd[steps=3]", "square[queries=100]"])
def test_a_model_without_gradient_is_scored_and_flagged(model: Any, attack: str) -> None:
    record = package.evaluate(model, X, Y, **{**FAST, "attack": attack}, threat="l2")
    assert record.scores[0].acc == 1 and "GRAD" in record.flags
    assert any(note.startswith("no gradient reaches the signal") for note in record.notes)


def test_strict_finds_by_scores_what_a_detached_model_hides() -> None:
    record = package.evaluate(Wrapped(lambda z: z.detach()), X, Y, **{**FAST, "attack": "strict[budget=quick]"})
    assert record.scores[1].acc < 0.9 and "GRAD" in record.flags


@pytest.mark.parametrize("threat", ["linf", "l2"])
@pytest.mark.parametrize("end", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_is_flagged_and_the_attack_goes_on(threat: str, end: float) -> None:
    class Rough(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return torch.zeros_like(x)

        @staticmethod
        def backward(ctx: Any, *oracle: Tensor) -> Tensor:
            return torch.full_like(oracle[0], end)

    class Net(Module):
        def forward(self, x: Tensor) -> Tensor:
            return NET(x) + Rough.apply(x[:, 0, 5:])  # type: ignore[no-untyped-call]

    record = package.evaluate(Net(), X, Y, **FAST, threat=threat)
    assert "GRAD" in record.flags and record.scores[1].acc < 1


# where evaluate is called


@pytest.mark.parametrize(
    "context",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autograd.set_detect_anomaly(True),
        lambda: torch.device("meta"),
    ],
)
def test_the_callers_context_changes_nothing(context: Callable[[], AbstractContextManager[Any]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with context():
            before = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_device()
            record = package.evaluate(NET, X, Y, **FAST)
            assert before == (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_device())
    assert accuracies(record) == PLAIN


def test_weights_made_in_inference_mode_are_judged_alike() -> None:
    with torch.inference_mode():
        net = Sequential(Flatten(), Linear(6, 3))
        net[1].load_state_dict(NET[1].state_dict())
        inside = package.evaluate(net, X.clone(), Y.clone(), **FAST)
    assert accuracies(inside) == accuracies(package.evaluate(net, X, Y, **FAST)) == PLAIN and inside.flags == ()


@pytest.mark.parametrize("default", [torch.float64, torch.float16])
def test_another_default_type_is_the_models_alone(default: torch.dtype) -> None:
    seen: set[torch.dtype] = set()

    def note(z: Tensor) -> Tensor:
        seen.add(torch.zeros(()).dtype)
        return z

    torch.set_default_dtype(default)
    try:
        record = package.evaluate(Wrapped(note), X, Y, **FAST)
        assert torch.get_default_dtype() == default
    finally:
        torch.set_default_dtype(torch.float32)
    assert accuracies(record) == PLAIN and seen == {default}


def test_autocast_is_refused_and_a_models_own_is_not() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(EcgbenchError, match="autocast is on for cpu"):
        package.evaluate(NET, X, Y, **FAST)

    def own(x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return NET(x)

    assert abs(package.evaluate(own, X, Y, **FAST).scores[1].acc - PLAIN[1]) < 0.1


def test_run_works_under_another_default_type_and_without_gradients(tmp_path: Any) -> None:
    grid: dict[str, Any] = {"model": "linear", "dataset": "synthetic-beats[beats=300]", "attack": "fgsm"}
    grid |= {"defense": "none[epochs=1]", "eps": (0.1,)}
    (plain,) = package.run(**grid, store=tmp_path / "plain")
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            (other,) = package.run(**grid, store=tmp_path / "other")
    finally:
        torch.set_default_dtype(torch.float32)
    assert other.status == "ok" and other.scores == plain.scores and other.key == plain.key


# the model is left as it was


class Careless(Module):
    """Everything that a forward may do to a module."""

    count: Tensor
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.net = Sequential(Flatten(), BatchNorm1d(6), Dropout(0.5), ReLU(), Linear(6, 3))
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(6), persistent=False)
        self.calls, self.seen = 0, [1]
        self.at = {"step": 0}

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.mean = x.detach().mean(0).flatten()
        self.calls += 1
        self.seen.append(len(x))
        self.at["step"] += 1
        self.cache = x
        torch.rand(3), np.random.random(), random.random()
        return self.net(x)


def test_nothing_of_a_careless_model_is_changed() -> None:
    model = Careless()
    model.net[1].eval()
    hook = model.register_forward_hook(lambda *_: None)
    model.net[4].bias.requires_grad_(False)
    model.net[4].weight.grad = torch.ones(3, 6)
    mean, before = model.mean, fingerprint(model)
    states = torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index]
    loss = model.net(X).sum()
    record = package.evaluate(model, X, Y, **FAST)
    assert "STATE" in record.flags
    assert fingerprint(model) == before and model.mean is mean and not hasattr(model, "cache")
    assert (model.calls, model.seen, model.at) == (0, [1], {"step": 0})
    assert [part.training for part in model.net] == [True, False, True, True, True]
    assert [w.requires_grad for w in model.net[4].parameters()] == [True, False]
    assert model.net[4].weight.grad.eq(1).all() and len(model._forward_hooks) == 1
    assert random.getstate() == states[2] and np.array_equal(np.random.get_state()[1], states[1])  # type: ignore[index]
    loss.backward()  # the graph of the caller still holds
    hook.remove()


def test_the_module_behind_a_function_is_left_as_it_was_too() -> None:
    net = Sequential(BatchNorm1d(1), Flatten(), Linear(6, 3)).train()
    before = fingerprint(net)
    for model in (lambda x: net(1 * x), partial(lambda inner, x: inner(x), net), net.forward):
        record = package.evaluate(model, X, Y, **FAST)
        assert fingerprint(net) == before and net.training and net[2].weight.requires_grad
    assert "STATE" in record.flags


# state that is not plain tensors


class Holding(Module):
    def __init__(self, buffer: Tensor) -> None:
        super().__init__()
        self.net = NET
        self.register_buffer("kept", buffer)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Extra(Holding):
    def get_extra_state(self) -> dict[str, Any]:
        return {"mean": 0.5, "of": object()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        pass


@pytest.mark.parametrize(
    "model",
    [
        Holding(torch.tensor([torch.nan])),
        Extra(torch.zeros(1)),
        Holding(torch.eye(3).to_sparse()),
        Holding(torch.tensor([1, 2])),
        Holding(torch.eye(2) + 1j),
    ],
)
def test_odd_state_is_no_change_of_state(model: Module) -> None:
    record = package.evaluate(model, X, Y, **FAST)
    assert accuracies(record) == PLAIN and record.flags == ()


def test_a_quantised_model_is_judged_by_scores() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(Sequential(Flatten(), Linear(6, 3)), {Linear})
    with torch.no_grad():
        y = model(X).argmax(1)
    record = package.evaluate(model, X, y, **{**FAST, "attack": "square[queries=20]"})
    assert record.scores[0].acc == 1 and "GRAD" in record.flags and "STATE" not in record.flags


# classifiers of scikit-learn


def fitted(kind: str, labels: Any) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC
    from sklearn.tree import DecisionTreeClassifier

    kinds = {
        "tree": DecisionTreeClassifier(),
        "regression": LogisticRegression(),
        "pipeline": make_pipeline(StandardScaler(), LogisticRegression()),
        "svc": SVC(),
        "ovo": SVC(decision_function_shape="ovo", break_ties=False),
    }
    return kinds[kind].fit(X.flatten(1).numpy(), labels)


@pytest.mark.parametrize("kind", ["tree", "regression", "pipeline", "svc"])
@pytest.mark.parametrize("names", [[3, 5, 9], ["N", "S", "V"]])
def test_a_classifier_is_judged_by_its_own_labels(kind: str, names: list[Any]) -> None:
    y = np.array(names)[Y.numpy()]
    model = fitted(kind, y)
    record = package.evaluate(model, X, y, **{**FAST, "attack": "square[queries=20]"})
    assert record.scores[0].acc == pytest.approx(model.score(X.flatten(1).numpy(), y))
    assert record.scores[1].acc < record.scores[0].acc and "GRAD" in record.flags
    assert record.classes == tuple(map(str, names)) and "serve as logits" in " ".join(record.notes)


def test_two_classes_of_a_classifier_are_read_from_one_score() -> None:
    y = np.array(["normal", "AF"])[(Y > 0).long()]
    record = package.evaluate(fitted("regression", y), X, y, **{**FAST, "attack": "square[queries=20]"})
    assert record.classes == ("AF", "normal") and record.scores[0].acc > 0.8


def test_a_classifier_whose_scores_say_otherwise_is_refused() -> None:
    model = fitted("ovo", Y.numpy())
    model.decision_function = lambda x: -np.eye(3)[model.predict(x)]
    with pytest.raises(EcgbenchError, match="predict of SVC disagrees with its scores"):
        package.evaluate(model, X, Y, eps=[0.1], attack=Never())


def test_classifiers_that_cannot_answer_get_one_sentence() -> None:
    from sklearn.linear_model import LinearRegression, LogisticRegression

    for model, reason in (
        (LogisticRegression(), "NotFittedError"),
        (LinearRegression().fit(X.flatten(1), Y), "the model is of type LinearRegression; expected a module"),
        (fitted("tree", np.where(Y == 2, 1, Y)), "y holds 2 at sample"),
    ):
        with pytest.raises(EcgbenchError) as refused:
            package.evaluate(model, X, Y, eps=[0.1], attack=Never())
        assert reason in str(refused.value)
    with pytest.raises(EcgbenchError, match=r"classes \['a', 'b'\] are given; the classifier knows \[0, 1, 2\]"):
        package.evaluate(fitted("tree", Y.numpy()), X, Y, eps=[0.1], classes=["a", "b"])


# samples


def test_a_loader_stands_for_signals_and_labels() -> None:
    loader = DataLoader(TensorDataset(X.double(), Y, torch.zeros(48)), batch_size=7)
    names = ("N", "S", "V")
    words = [(X[:20], [names[label] for label in Y[:20]]), (X[20:], [names[label] for label in Y[20:]])]
    plain = package.evaluate(NET, X, Y, **FAST, classes=names, group=np.arange(48) // 4)
    for x in (loader, words):
        record = package.evaluate(NET, x, **FAST, classes=names, group=[f"p{label:02}" for label in np.arange(48) // 4])
        assert (record.key, record.scores) == (plain.key, plain.scores)


def test_a_loader_beside_something_else_is_refused() -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=7, shuffle=True)
    assert accuracies(package.evaluate(NET, loader, **FAST))[0] == 1
    for given, reason in (
        ({"x": loader, "y": Y}, "x is a DataLoader and y is given, too"),
        ({"x": loader, "group": Y}, "the DataLoader shuffles"),
        ({"x": X}, "y is not given"),
        ({"x": X.numpy()}, "y is not given"),
        ({"x": None}, "y is not given"),
    ):
        with pytest.raises(EcgbenchError) as refused:
            package.evaluate(NET, given.pop("x"), **FAST, **given)
        assert reason in str(refused.value)


def test_the_range_of_double_data_is_taken() -> None:
    x = np.random.default_rng(3).standard_normal((30, 1, 6))
    for data, bounds in ((x, (x.min(), x.max())), (np.clip(x, 0, 0.1), (0, 0.1))):
        record = package.evaluate(NET, data, np.arange(30) % 3, eps=[0.02], bounds=bounds, attack="fgsm")
        assert record.status == "ok"
    with pytest.raises(EcgbenchError, match=r"leaves the stated range \(0.0, 0.5\): sample 0 by "):
        package.evaluate(NET, x, np.arange(30) % 3, eps=[0.02], bounds=(0, 0.5))


@pytest.mark.parametrize("device", ["cuda:99", "meta", "tpu", "", 99, "cpu:1"])
def test_a_device_that_is_not_there_is_refused(device: Any) -> None:
    with pytest.raises(EcgbenchError, match="is not there; expected cpu"):
        package.evaluate(NET, X, Y, **FAST, device=device)
    assert accuracies(package.evaluate(NET, X, Y, **FAST, device=torch.device("cpu"))) == PLAIN


def test_words_and_single_sizes_are_read() -> None:
    record = package.evaluate(NET, X, Y, eps=0.1, bounds=(0, 1), attack=FAST["attack"], protocol="standard", seed=0)
    assert accuracies(record) == PLAIN
    assert package.evaluate(NET, X, Y, **{**FAST, "eps": np.array([0.1])}).key == record.key
    assert package.evaluate(NET, X, Y, **FAST, seed=np.int64(0)).scores == record.scores  # type: ignore[arg-type]
    with pytest.raises(EcgbenchError, match=r"seed '0\.5' given"):
        package.evaluate(NET, X, Y, **FAST, seed=0.5)  # type: ignore[arg-type]


def test_two_functions_have_two_keys() -> None:
    keys = {package.evaluate(model, X, Y, **FAST).key for model in (lambda x: 1 * NET(x), lambda x: 2 * NET(x))}
    assert len(keys) == 2


# the record


def test_strict_is_what_an_unnamed_attack_means() -> None:
    record = package.evaluate(NET, X[:6], Y[:6], eps=[0.5], bounds=(0, 1))
    assert record.attack == "strict"


def test_a_record_prints_as_a_verdict() -> None:
    names = np.array(["N", "S", "V"])
    grid = [round(0.01 * step, 2) for step in range(1, 30)]
    record = package.evaluate(
        Sequential(NET, nn.Softmax(1)),
        X,
        Y,
        eps=grid,
        headline=0.1,
        attack="pgd[steps=1]",
        classes=names,  # type: ignore[arg-type] # an array is read as well
        group=np.arange(48) // 4,
    )
    text = str(record)
    assert len(text.splitlines()) < 25 and max(map(len, text.splitlines())) <= 160
    score = record.score(0.1)
    assert score is not None
    low, high = score.interval.acc
    assert f"Robust accuracy at eps 0.1 is at most {score.acc:.3f} [{low:.3f}, {high:.3f}]: flagged" in text
    assert "n 48, 12 groups" in text and "  PROB: the victim shows probabilities" in text
    assert f"{record.scores[0].acc:.3f}" in text and "clean" in text and "threat linf" in text
    assert read_record(record.json(), "here") == record


def test_an_unflagged_record_says_so_and_a_failed_one_why() -> None:
    text = str(package.evaluate(NET, X, Y, **FAST))
    assert "flags: none of" in text and text.endswith("a stronger attack may lower it.")
    import msgspec

    failed = msgspec.structs.replace(package.evaluate(NET, X, Y, **FAST), status="failed", scores=(), error="no room")
    assert str(failed).splitlines()[-1] == "failed: no room"


def test_the_package_shows_its_names() -> None:
    assert {"evaluate", "hookimpl", "load_victim", "run"} <= set(dir(package))


def test_a_plugin_that_returns_tuples_is_read_as_evaluate_reads_it() -> None:
    from ecgbench.core.data import Samples
    from ecgbench.core.victim import Victim

    samples = Samples.of(X, Y)
    logits = Victim(Wrapped(lambda z: (z, None)), SingleLabel(("a", "b", "c"))).logits(X, samples, RandomStream((0,)))
    assert torch.equal(logits, NET(X))
    with pytest.raises(ContractError, match=r"Wrapped broke its contract: expected logits of shape \(48, 4\)"):
        Victim(Wrapped(lambda z: (z, None)), SingleLabel(tuple("abcd"))).logits(X, samples, RandomStream((0,)))
