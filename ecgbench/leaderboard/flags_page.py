"""The page that explains flags, badges and best known figures, and what leads to it."""

from __future__ import annotations

from ecgbench.checks.flags import FLAGS
from ecgbench.leaderboard.badges import MEANINGS
from ecgbench.leaderboard.naming import PAGES, anchor
from ecgbench.leaderboard.page import Code, Heading, Link, Page, Paragraph, Table
from ecgbench.leaderboard.ranking import RankedVictim
from ecgbench.leaderboard.wording import figure

FLAGS_PAGE = f"{PAGES}/flags.md"
OLDER = "older code"
"""The mark of a row that the present code has not made."""
BADGES, BEST_KNOWN = "Badges", "Best known"
DOUBTS = """\
A flag doubts a figure. A check of the victim flags it whatever the attack; a check of an attack flags a victim only \
where none of its attacks is free of flags. Flagged victims stand below unflagged ones, and victims that are no better \
than chance when clean (ONECLASS, CHANCE) below all others."""
OLDER_MEANS = " marks a row that was made by code, or on a victim of code, that has been edited since."
BADGES_SAY = """\
A badge says who made a row, and how far it was checked when it came. Pages name those of others; a victim or a row \
without a badge is this project's own."""
COUNTEREXAMPLES = """\
Anybody may send counterexamples: perturbations of test samples that make a published victim wrong. They are measured \
here, and lie in the folder counterexamples of the leaderboard. What all of them and all attacks of the board together \
leave of a victim stands beside its figure as "best known": never above the figure, and without a say in its rank."""


def flags_page() -> Page:
    """What every flag and every badge means."""
    flags, badges = (tuple((Code(one), what) for one, what in told.items()) for told in (FLAGS, MEANINGS))
    return Page.of(
        FLAGS_PAGE,
        "Flags",
        [
            Paragraph(DOUBTS),
            Table(("flag", "raised where"), flags),
            Paragraph((Code(OLDER), OLDER_MEANS)),
            Heading(BADGES),
            Paragraph(BADGES_SAY),
            Table(("badge", "a row"), badges),
            Heading(BEST_KNOWN),
            Paragraph(COUNTEREXAMPLES),
        ],
    )


def badges_link(victim: RankedVictim) -> Link:
    """How far the rows of others were checked that a figure is made of, and where that is explained."""
    return Link(", ".join(victim.badges), f"{FLAGS_PAGE}#{anchor(BADGES)}")


def best_known_link(victim: RankedVictim) -> Link:
    """What counterexamples leave of a victim at its headline eps, and where that is explained."""
    return Link(f"best known {figure(victim.best_known[victim.headline])}", f"{FLAGS_PAGE}#{anchor(BEST_KNOWN)}")
