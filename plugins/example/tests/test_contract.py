from ecgbench_example import Powerline

from ecgbench.testing import check_attack


def test_contract() -> None:
    check_attack(
        Powerline(),
        expected={
            "strong": "one wave in a few phases cannot follow a victim's weights",
            "targeted": "it tries phases until one is adversarial, and never asks which is nearest",
        },
    )
