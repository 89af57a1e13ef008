"""An attack over growing eps: every perturbation measured, every prediction the host's own.

By default a sample that is wrong when clean is not attacked, what is adversarial stays so, and the remaining samples of
the whole split are put into new chunks at each eps. A `Protocol` replays others who did it differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgbench.core.data import Batch, Samples, Task
from ecgbench.core.errors import ContractError, EcgbenchError
from ecgbench.core.interfaces import Attack, delta_of
from ecgbench.core.parameters import Parameterised
from ecgbench.core.progress import Checkpoint, State, SweepProgress
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import TOLERANCE, Ball, Goal, Threat
from ecgbench.core.trial import Trial
from ecgbench.core.victim import Victim, chunks
from ecgbench.evaluation.feasibility import check_feasible
from ecgbench.evaluation.guard import guarded
from ecgbench.evaluation.lending import AS_LENT, lent, tensors, unlabelled, unpatched, unwritten, victim_change
from ecgbench.evaluation.outcomes import Outcomes, labels
from ecgbench.evaluation.threshold import best_thresholds


@dataclass(frozen=True)
class Protocol(Parameterised):
    """How an attack's work is counted.

    `success`: a sample counts as adversarial at the "first" adversarial iterate, or only if the "last" one is
    adversarial. `sweep`: "growing" attacks only what remains robust at the smaller eps; "independent" attacks all at
    every eps. `clean_wrong`: samples wrong when clean are "wrong", unattacked, or "attacked" like any other.
    `per_class` counts at most so many samples of each class, drawn by id, each once; 0 counts the split as it is.
    `split` is attacked: "val" to choose by, so that what is reported on "test" saw no choice.
    """

    success: Literal["first", "last"] = "first"
    sweep: Literal["growing", "independent"] = "growing"
    clean_wrong: Literal["wrong", "attacked"] = "wrong"
    per_class: int = 0
    split: Literal["val", "test"] = "test"

    def __post_init__(self) -> None:
        if self.per_class < 0:
            raise EcgbenchError(f"per_class={self.per_class} given; expected 0 or more samples of each class.")

    @property
    def goes_on(self) -> bool:
        """Whether every sample is attacked at every eps for all of the attack's steps, adversarial already or not.

        Only then a score that needs more than the prediction, such as the AUROC, is as low as the attack can make it.
        """
        return (self.success, self.sweep, self.clean_wrong) == ("last", "independent", "attacked")


STANDARD = Protocol()
LARGEST = 65504.0  # that float16 holds


@dataclass(frozen=True)
class Sweep:
    """All that one sweep is made of; `run` does it. `eps` ascend, in the unit of the threat.

    `surrogate` is the second victim of an attack that asked for one. `labels` are further copies, in memory, of the
    labels of the attacked split. The attack is lent copies of everything; what it returns is judged on `task` and
    `victim` alone.
    """

    attack: Attack
    victim: Victim
    task: Task
    threat: Threat
    eps: tuple[float, ...]
    rng: RandomStream
    protocol: Protocol = STANDARD
    surrogate: Victim | None = None
    device: str = "cpu"
    labels: tuple[Tensor, ...] = ()

    @property
    def samples(self) -> Samples:
        """The split that is attacked."""
        return self.task.samples(self.protocol.split)

    @cached_property
    def lent(self) -> Victim:
        """The victim that the attack is lent."""
        return lent(self.victim)

    @cached_property
    def lent_source(self) -> Victim | None:
        """The second victim, lent."""
        return None if self.surrogate is None else lent(self.surrogate)

    @property
    def goes_on(self) -> bool:
        """Whether what the attack returns is its best against scores that need more than the prediction.

        Not where it stops at its first success, or where the eps of a sample is read from the size of what was found.
        """
        return self.protocol.goes_on and not self.attack.stops_at_success and not self.attack.minimal

    def run(self, checkpoint: Checkpoint) -> Outcomes:
        """Attack the split; a killed sweep goes on after its last finished chunk.

        Raises EcgbenchError for a grid or threat that cannot be, ContractError where a perturbation breaks
        the threat or a prediction is not finite.
        """
        check_grid(self.eps)
        check_feasible(self.threat, self.task, self.eps, self.protocol.split)
        clean, logits = self._clean(self.samples)
        goal = self.threat.goal(self.samples.y, self.task.outputs)
        right = clean == self.samples.y
        open_rows = goal.eligible & right if self.protocol.clean_wrong == "wrong" else goal.eligible
        table = _Table.resumed(checkpoint.load()) or _Table.begun(clean, logits, len(self.eps))
        if self.attack.minimal:
            self._visit(table, len(self.eps) - 1, open_rows, checkpoint)
            table.carry_all()
        else:
            for position in range(table.position, len(self.eps)):
                remaining = open_rows
                if position and self.protocol.sweep == "growing":
                    remaining = open_rows & ~table.adversarial[position - 1]
                    table.carry(position)
                self._visit(table, position, remaining, checkpoint)
        return self._outcomes(table, clean, logits)

    def _visit(self, table: _Table, position: int, remaining: Tensor, checkpoint: Checkpoint) -> None:
        """Attack the remaining samples at one eps, chunk by chunk."""
        rows = remaining.nonzero().squeeze(1)
        pieces = chunks(rows, self.task.shape)
        for number, piece in enumerate(pieces[table.chunk :], table.chunk + 1):
            self._attack(table, position, piece)
            table.position, table.chunk = position, number
            checkpoint.save(table.state())
            done = min(len(rows), number * len(pieces[0]))
            checkpoint.report(SweepProgress(self.eps[position], position, len(self.eps), done, len(rows)))
        self._check_victims()
        table.position, table.chunk = position + 1, 0

    def perturb(self, batch: Batch, eps: float) -> Answer:
        """What the attack makes of these rows at `eps`, on the sweep's device.

        Raises ContractError where delta breaks the threat, or the attack wrote into what it was lent.
        """
        loan = batch.copy()
        trial = Trial.begin(
            self.lent,
            loan,
            self.threat.ball(loan, eps, self.task.bounds),
            self.threat.goal(loan.y, self.task.outputs),
            self.rng.fold_in("victim", eps),
            watch="last" if self.attack.minimal else self.protocol.success,
            surrogate=self.lent_source,
            gradients_allowed=self.attack.access == "gradient",
            draws=self.attack.eot,
            rate=self.task.rate,
        )
        with unwritten(self.attack, [*tensors(batch), *tensors(self.task)]):
            delta = self.ask(self.attack, trial, self.rng.fold_in("attack", eps))
        if trial.watch == "first":
            delta = trial.best(delta)
        ball = self.threat.ball(batch, eps, self.task.bounds)
        measure(self.attack, ball, delta, batch)
        return Answer(trial, ball, delta)

    def ask(self, attack: Attack, trial: Trial, rng: RandomStream) -> Tensor:
        """What `attack` returns for a trial of this sweep's lent victims.

        Raises ContractError where it changes what it was lent or a setting of torch.
        """
        parts = [*tensors(trial.batch), *tensors(trial.ball), *tensors(trial.goal), *self._weights]
        with guarded(attack), unpatched(attack, self.lent.module), unwritten(attack, parts):
            delta = delta_of(attack, trial, rng).clone()
        if trial.memory.spoiled is not None:
            raise ContractError(attack, AS_LENT, f"another {trial.memory.spoiled} in the memory of the trial")
        return delta

    @cached_property
    def _weights(self) -> list[tuple[str, Tensor]]:
        """The weights of the victim that is lent, by name."""
        return list(self.lent.module.named_parameters())

    def _check_victims(self) -> None:
        """Raises ContractError where a victim that was lent is not as it was."""
        change = victim_change(self.lent.module, self.victim.module)
        if self.surrogate is not None and self.lent_source is not None:
            change = change or victim_change(self.lent_source.module, self.surrogate.module)
        if change is not None:
            raise ContractError(self.attack, AS_LENT, change)

    def _attack(self, table: _Table, position: int, rows: Tensor) -> None:
        batch = self.samples[rows].to(self.device)
        answer = self.perturb(batch, self.eps[position])
        table.note(position, rows, answer.trial)
        ball, delta = answer.ball, answer.delta
        del answer  # with its trial, whose goal holds the labels
        if not self.attack.minimal:
            self._judge(table, position, rows, batch, ball, delta)
            return
        for place in range(position + 1):
            ball = self.threat.ball(batch, self.eps[place], self.task.bounds)
            self._judge(table, place, rows, batch, ball, ball.project(delta))
        found = table.adversarial[position, rows]
        table.distance[rows] = torch.where(found, table.size[position, rows], torch.nan)

    def _judge(self, table: _Table, position: int, rows: Tensor, batch: Batch, ball: Ball, delta: Tensor) -> None:
        """The host's own verdict on `delta`, which lies in the ball of this eps."""
        goal = self.threat.goal(batch.y, self.task.outputs)
        predicted, logits = self.predicted(batch, batch.x + delta, "verdict", goal)
        one = self.eps[position] / ball.eps.flatten()
        table.predicted[position, rows] = predicted.cpu()
        table.adversarial[position, rows] = goal.met(predicted).cpu()
        table.size[position, rows] = (ball.size(delta) / ball.eps.flatten() * self.eps[position]).cpu()
        table.l0[position, rows] = delta.flatten(1).count_nonzero(1).cpu()
        table.l1[position, rows] = (ball.in_unit(delta).flatten(1).abs().sum(1) * one).cpu()
        table.logits[position, rows] = logits.cpu()

    def _clean(self, samples: Samples) -> tuple[Tensor, Tensor]:
        """What `predicted` gives for the samples as they are."""
        pieces = chunks(torch.arange(len(samples)), self.task.shape)
        batches = (samples[piece].to(self.device) for piece in pieces)
        found = [self.predicted(batch, batch.x, "clean") for batch in batches]
        return torch.cat([predicted.cpu() for predicted, _ in found]), torch.cat([logits.cpu() for _, logits in found])

    def predicted(self, batch: Batch, x: Tensor, purpose: str, goal: Goal | None = None) -> tuple[Tensor, Tensor]:
        """Prediction (n,) for `x` in place of `batch.x`, and the log-odds (n, w) that metrics need, float16.

        While the host's own victim answers, no label is in reach.

        Raises ContractError where an answer is not finite, or the module changes a setting of torch.
        """
        with guarded(self.victim.name), unlabelled(self.samples.y, batch.y, *self.labels):
            answers = self.victim.answers(x, batch, self.rng.fold_in(purpose))
        predicted = self.task.outputs.predict(answers, batch.y, goal)
        if bool((predicted < 0).any()):
            sample = int(batch.ids[predicted < 0][0])
            raise ContractError(self.victim.name, "finite logits", f"others on sample {sample}")
        return predicted, self.task.outputs.log_odds(answers).clamp(-LARGEST, LARGEST).half()

    def _threshold(self, logits: Tensor) -> NDArray[np.float64]:
        """The threshold of each logit that metrics need, chosen on the validation split."""
        val = self.task.val
        if not logits.shape[-1] or not len(val):
            return np.full(logits.shape[-1], np.nan)
        holds = torch.stack([self.task.outputs.shows(val.y, label) for label in self.task.outputs.scored], 1)
        return best_thresholds(self._clean(val)[1].numpy(), holds.numpy(), val.weight.numpy())

    def _outcomes(self, table: _Table, clean: Tensor, logits: Tensor) -> Outcomes:
        test, codes = self.samples, self.task.outputs.codes
        group = torch.full_like(test.ids, -1) if test.group is None else test.group
        return Outcomes(
            eps=np.array(self.eps, dtype=np.float64),
            ids=test.ids.numpy(),
            y=labels(test.y.numpy(), codes),
            group=group.numpy(),
            weight=test.weight.numpy(),
            clean=labels(clean.numpy(), codes),
            predicted=labels(table.predicted.numpy(), codes),
            adversarial=table.adversarial.numpy(),
            size=table.size.numpy(),
            l0=table.l0.numpy().astype(np.int32),
            l1=table.l1.numpy(),
            distance=table.distance.numpy(),
            logits=torch.cat([logits[None], table.logits]).numpy(),
            threshold=self._threshold(logits),
            by=table.by.numpy().astype(np.int8),
            forwards=table.forwards.numpy().astype(np.int32),
            gradients=table.gradients.numpy().astype(np.int32),
            components=np.array(table.components),
        )


@dataclass(frozen=True)
class Answer:
    """An attack's trial of some rows, the ball that the host measures by, and the delta (n, *shape) found inside it."""

    trial: Trial
    ball: Ball
    delta: Tensor


def check_grid(grid: tuple[float, ...]) -> None:
    """Raises EcgbenchError unless the sizes are finite, above 0 and ascending, each once."""
    for eps in grid:
        if not 0 < eps <= torch.finfo(torch.float32).max:
            raise EcgbenchError(f"eps {eps!r} given; expected a finite number above 0.")
    if not grid or list(grid) != sorted(set(grid)):
        raise EcgbenchError(f"eps grid {list(grid)} given; expected ascending values, each once.")


def measure(attack: Attack, ball: Ball, delta: Tensor, batch: Batch) -> None:
    """Raises ContractError, naming the rule and the sample, unless every row of `delta` lies in the ball."""
    if bool(ball.contains(delta).all()):
        return
    row = int((~ball.contains(delta)).nonzero()[0])
    one, inside = delta[row : row + 1], ball[slice(row, row + 1)]
    sample, eps, size = int(batch.ids[row]), float(inside.eps), float(inside.size(one))
    if not bool(torch.isfinite(one).all()):
        expected, got = "finite values", "others"
    elif size > eps * (1 + TOLERANCE):
        expected, got = f"{ball.norm.name} size <= {eps:g}", f"{size:g}"
    else:
        expected, got = "no change outside the mask and the bounds", "one"
    raise ContractError(attack, expected, f"{got} on sample {sample}")


@dataclass
class _Table:
    """The growing result and the last finished chunk of the eps at `position`.

    Shapes are (e, n), of `logits` (e, n, w), of `distance` (n,).
    """

    predicted: Tensor
    adversarial: Tensor
    size: Tensor
    l0: Tensor
    l1: Tensor
    logits: Tensor
    distance: Tensor
    by: Tensor
    forwards: Tensor
    gradients: Tensor
    components: list[str]
    position: int = 0
    chunk: int = 0

    @classmethod
    def begun(cls, clean: Tensor, logits: Tensor, grid: int) -> _Table:
        """Nothing attacked: everyone predicted as when clean."""
        zeros = torch.zeros(grid, len(clean), dtype=torch.int64)
        return cls(
            predicted=clean.repeat(grid, 1),
            adversarial=zeros.bool(),
            size=zeros.float(),
            l0=zeros.clone(),
            l1=zeros.float(),
            logits=logits.repeat(grid, 1, 1),
            distance=torch.full((len(clean),), torch.nan),
            by=zeros.clone(),
            forwards=zeros.clone(),
            gradients=zeros.clone(),
            components=[""],
        )

    @classmethod
    def resumed(cls, state: State | None) -> _Table | None:
        """The table of an earlier, killed sweep."""
        if state is None:
            return None
        names = bytes(state["components"].tolist()).decode().split("\n")
        place = state["place"].tolist()
        return cls(**{name: state[name] for name in _ROWS}, components=names, position=place[0], chunk=place[1])

    def state(self) -> State:
        """What `resumed` reads."""
        names = torch.tensor(list("\n".join(self.components).encode()), dtype=torch.uint8)
        place = torch.tensor([self.position, self.chunk])
        return {name: getattr(self, name) for name in _ROWS} | {"components": names, "place": place}

    def carry(self, position: int) -> None:
        """What was adversarial at the eps before stays so, by the same perturbation."""
        adversarial = self.adversarial[position - 1]
        for part in (self.predicted, self.adversarial, self.size, self.l0, self.l1, self.logits, self.by):
            part[position, adversarial] = part[position - 1, adversarial]

    def carry_all(self) -> None:
        """The same over the whole grid."""
        for position in range(1, len(self.adversarial)):
            self.carry(position)

    def note(self, position: int, rows: Tensor, trial: Trial) -> None:
        """What the trial of these rows has spent, and which component found what."""
        self.forwards[position, rows] = trial.memory.forwards.cpu()
        self.gradients[position, rows] = trial.memory.gradients.cpu()
        self.by[position, rows] = self.components_of(trial)

    def components_of(self, trial: Trial) -> Tensor:
        """The trial's components (n,) as positions in `components`."""
        for name in trial.memory.components:
            if name not in self.components:
                self.components.append(name)
        places = torch.tensor([self.components.index(name) for name in trial.memory.components])
        return places[trial.memory.by.cpu()]


_ROWS = ("predicted", "adversarial", "size", "l0", "l1", "logits", "distance", "by", "forwards", "gradients")
