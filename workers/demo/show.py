"""What the demonstration draws on the terminal: the steps of the set-up, the challenges on their road, the result."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from chain import Challenge, Phase, Verdict
from workers.demo.market import Ending, OpenChallenge
from workers.demo.world import ETHER

MARKS = {
    Verdict.VALID: "valid",
    Verdict.INVALID: "invalid",
    Verdict.UNAVAILABLE: "unavailable",
    Verdict.NONE: "undecided",
}


@dataclass
class Step:
    """One line of the set-up: what is done, how far it is, how long it took."""

    title: str
    detail: str = ""
    share: float | None = None
    started: float = field(default_factory=time.monotonic)
    seconds: float | None = None


@dataclass
class Journey:
    """When a challenge reached each stage, in seconds since it was opened."""

    opened: OpenChallenge
    started: float
    state: Challenge | None = None
    reached: dict[str, float] = field(default_factory=dict)

    def see(self, state: Challenge, now: float) -> None:
        """Note what is new."""
        self.state = state
        stages = {
            "committed": state.commits == state.terms.k,
            "revealed": state.reveals == state.terms.k,
            "settled": state.phase is Phase.SETTLED,
        }
        for stage, there in stages.items():
            if there:
                self.reached.setdefault(stage, now - self.started)


class Stage:
    """The live display. One renderable that grows: set-up steps above, challenges below."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps: list[Step] = []
        self._journeys: list[Journey] = []
        self._spinner = Spinner("dots")
        self._live = Live(console=console, refresh_per_second=10, get_renderable=self._draw)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw while the body runs. Where there is no terminal, each finished step is a line instead."""
        if self._console.is_terminal:
            with self._live:
                yield
        else:
            yield

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """A step of the set-up, timed."""
        step = Step(title)
        self._steps.append(step)
        yield step
        step.seconds = time.monotonic() - step.started
        if not self._console.is_terminal:
            self._console.print(f"✓ {title} {step.detail} ({step.seconds:.1f} s)", highlight=False)

    def follow(self, journeys: Sequence[Journey]) -> None:
        """Show these challenges from now on."""
        self._journeys = list(journeys)

    def _draw(self) -> RenderableType:
        parts: list[RenderableType] = [self._step_table()]
        if self._journeys:
            parts += [Text(), self._road()]
        return Group(*parts)

    def _step_table(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for step in self._steps:
            done = step.seconds is not None
            mark: RenderableType = Text("✓", style="green") if done else self._spinner
            seconds = step.seconds if step.seconds is not None else time.monotonic() - step.started
            bar: RenderableType = (
                ProgressBar(total=1, completed=step.share, width=24)
                if step.share is not None and not done
                else Text(step.detail, style="dim")
            )
            table.add_row(mark, step.title, bar, Text(f"{seconds:.1f} s", style="dim"))
        return table

    def _road(self) -> Table:
        table = Table(title="Challenges on their road", title_justify="left", expand=False)
        for column in ("challenge", "phase", "commits", "reveals", "verdict", "seconds"):
            table.add_column(column)
        for journey in self._journeys:
            state = journey.state
            if state is None:
                continue
            done = journey.reached.get("settled")
            table.add_row(
                f"{journey.opened.challenge_id} · {journey.opened.offer.title}",
                Text(state.phase.name.lower(), style="green" if done else "yellow"),
                _dots(state.commits, state.terms.k),
                _dots(state.reveals, state.terms.k),
                _verdict(state) if done else Text("…", style="dim"),
                f"{done if done is not None else time.monotonic() - journey.started:.1f}",
            )
        return table


def result_table(endings: Sequence[Ending], journeys: Sequence[Journey], work: dict[int, tuple[float, float]]) -> Table:
    """The table at the end. `work` gives seconds of fetch and evaluation of each challenge, from its reports."""
    table = Table(title="Settled", title_justify="left")
    for column in (
        "challenge",
        "verdict",
        "score",
        "claim",
        "payout each",
        "transactions",
        "fetch",
        "evaluate",
    ):
        table.add_column(column, justify="left" if column in {"challenge", "verdict"} else "right")
    for column in ("committed", "revealed", "settled", "as it should"):
        table.add_column(column, justify="right")
    for ending, journey in zip(endings, journeys, strict=True):
        challenge = ending.challenge
        fetch, evaluate = work.get(challenge.challenge_id, (0.0, 0.0))
        table.add_row(
            f"{challenge.challenge_id} · {ending.opened.offer.title}",
            _verdict(challenge),
            str(challenge.score) if challenge.verdict is Verdict.VALID else "–",
            f"≥ {challenge.terms.pass_mark}",
            f"{challenge.payout_wei / ETHER:.3f} ETH",
            str(1 + challenge.commits + challenge.reveals + 1),
            f"{fetch:.2f} s",
            f"{evaluate:.2f} s",
            *(f"{journey.reached.get(stage, float('nan')):.1f} s" for stage in ("committed", "revealed", "settled")),
            Text("yes", style="green") if ending.as_it_should else Text("NO", style="bold red"),
        )
    return table


def _verdict(state: Challenge) -> Text:
    word = MARKS[state.verdict]
    if state.verdict is Verdict.VALID:
        return Text(f"{word}, {'passed' if state.passed else 'failed'}", style="green" if state.passed else "red")
    return Text(word, style="red" if state.verdict is Verdict.INVALID else "yellow")


def _dots(have: int, of: int) -> str:
    return "●" * have + "○" * (of - have)
