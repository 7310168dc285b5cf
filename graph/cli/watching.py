"""A run on the screen, from the messages of its stream: a live panel, plain lines for a log file, or JSON."""

import time
from abc import abstractmethod
from collections import deque
from contextlib import aclosing
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from graph.cli import documents
from graph.cli.client import Client
from graph.cli.errors import Exit
from graph.cli.output import print_json
from graph.cli.stream import Drop

TAIL_LINES = 6
CURVE_POINTS = 24
PLAIN_STEP_PERCENT = 10.0
ENDED = {"READY": Exit.DONE, "FAILED": Exit.REFUSED, "CANCELED": Exit.CANCELED}
_BARS = "▁▂▃▄▅▆▇█"
_LEVEL_STYLES = {"WARNING": "yellow", "ERROR": "red", "DEBUG": "dim"}


class RunView:
    """What is known of a run, from its messages so far."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.began_at = time.monotonic()
        self.status = "QUEUED"
        self.stage = "WAITING"
        self.words = ""
        self.progress = 0.0
        self.is_estimated = True
        self.eta_seconds: float | None = None
        self.readings: dict[str, deque[float]] = {}
        self.tail: deque[dict[str, Any]] = deque(maxlen=TAIL_LINES)
        self.log_lines = 0
        self.deployment_url: str | None = None
        self.end_reason: str | None = None
        self.error_message: str | None = None
        self.trouble = ""
        """Why nothing is heard at the moment."""
        self.news = ""
        """The last that its owner should know beside its state: another attempt, a warning."""

    def take(self, message: dict[str, Any]) -> None:
        """Bring it up to this message."""
        self.trouble = ""
        self.status, self.stage = message["status"], message["stage"]
        self.words = message["message"] or self.stage.replace("_", " ").lower()
        self.progress, self.is_estimated = message["progress"], message["progressEstimated"]
        self.eta_seconds = message["etaSeconds"]
        run = message["run"]
        self.end_reason, self.error_message = run["endReason"], run["errorMessage"]
        self.deployment_url = message.get("deploymentUrl") or run["deploymentUrl"] or self.deployment_url
        for reading in message.get("readings", ()):
            self.readings.setdefault(reading["name"], deque(maxlen=CURVE_POINTS)).append(reading["value"])
        for line in message.get("lines", ()):
            self.tail.append(line)
        self.log_lines = max(self.log_lines, message.get("toLine", 0))
        self.news = news_of(message) or self.news

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def exit_code(self) -> Exit:
        """What the end means to a script; REFUSED for a run that has not ended."""
        return ENDED.get(self.status, Exit.REFUSED)

    @property
    def remaining(self) -> str:
        """The ETA in words."""
        if self.has_ended or self.eta_seconds is None:
            return ""
        return f"{'about ' if self.is_estimated else ''}{seconds_text(self.eta_seconds)} left"


class Screen(Protocol):
    """Where a run is shown."""

    @abstractmethod
    def show(self, message: dict[str, Any], view: RunView) -> None: ...

    @abstractmethod
    def show_drop(self, drop: Drop, view: RunView) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


async def watch(client: Client, run_id: str, screen: Screen, *, name: str = "", after: str | None = None) -> RunView:
    """Show a run until its stream completes; what is known of it then. Raises `ClientError`."""
    view = RunView(name)

    def dropped(drop: Drop) -> None:
        view.trouble = f"The connection was lost ({drop.reason}); coming back."
        screen.show_drop(drop, view)

    with screen:
        async with aclosing(client.follow(run_id, after=after, on_drop=dropped)) as messages:
            async for message in messages:
                view.name = view.name or message["run"]["model"]["name"]
                view.take(message)
                screen.show(message, view)
    if not view.has_ended:  # the cursor that was given is of the last message
        run = await client.ask(documents.RUN, id=run_id)
        view.status, view.end_reason, view.error_message = run["status"], run["endReason"], run["errorMessage"]
    return view


def screen_for(console: Console, *, as_json: bool) -> Screen:
    """JSON if it is asked for, a live panel on a terminal, else plain lines."""
    if as_json:
        return JsonScreen()
    return LiveScreen(console) if console.is_terminal else PlainScreen(console)


class JsonScreen:
    """One message per line, as the API sent it."""

    def show(self, message: dict[str, Any], view: RunView) -> None:
        print_json(message)

    def show_drop(self, drop: Drop, view: RunView) -> None:
        """Programs see the numbers go on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class PlainScreen:
    """A line for every step, every tenth of the way, and every line of the log."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._said = ""
        self._next_percent = 0.0

    def show(self, message: dict[str, Any], view: RunView) -> None:
        for line in message.get("lines", ()):
            self._print(f"  | {line['text']}")
        if news := news_of(message):
            self._print(f"  ! {news}")
        if view.words != self._said or view.progress >= self._next_percent:
            self._said = view.words
            self._next_percent = (view.progress // PLAIN_STEP_PERCENT + 1) * PLAIN_STEP_PERCENT
            facts = [f"{view.progress:5.1f} %", f"{view.status:<9}", view.words, *_latest(view), view.remaining]
            self._print("  ".join(fact for fact in facts if fact))

    def show_drop(self, drop: Drop, view: RunView) -> None:
        self._print(view.trouble)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)


class LiveScreen:
    """A panel that stays where it is: bar, step, ETA, metrics with their curves, the log's last lines."""

    def __init__(self, console: Console) -> None:
        self._view = RunView()
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(console=console, refresh_per_second=10, get_renderable=self._panel)

    def show(self, message: dict[str, Any], view: RunView) -> None:
        self._view = view

    def show_drop(self, drop: Drop, view: RunView) -> None:
        self._view = view

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _panel(self) -> RenderableType:
        view = self._view
        parts: list[RenderableType] = [self._head(view), self._bar(view)]
        if view.readings:
            parts.append(_metrics(view))
        parts.extend(_log_line(line) for line in view.tail)
        parts.extend(Text(text, style="yellow") for text in (view.news, view.trouble) if text)
        return Padding(Group(*parts), (0, 2))

    def _head(self, view: RunView) -> Table:
        head = Table.grid(padding=(0, 1))
        mark = _MARKS.get(view.status)
        title = f"[bold]{escape(view.name)}[/]  [cyan]{view.status}[/]  {escape(view.words)}"
        head.add_row(Text.from_markup(mark) if mark else self._spinner, Text.from_markup(title))
        return head

    def _bar(self, view: RunView) -> Table:
        bar = Table.grid(padding=(0, 2))
        guess = "~" if view.is_estimated and not view.has_ended else ""
        elapsed = seconds_text(time.monotonic() - view.began_at)
        bar.add_row(
            ProgressBar(total=100, completed=view.progress, width=40, complete_style="cyan", finished_style="green"),
            f"{guess}{view.progress:.1f} %",
            f"[dim]{elapsed}{' · ' if view.remaining else ''}{view.remaining}[/]",
        )
        return bar


_MARKS = {"READY": "[bold green]✓[/]", "FAILED": "[bold red]✗[/]", "CANCELED": "[yellow]■[/]"}


def news_of(message: dict[str, Any]) -> str:
    """What a message tells beside the run's state: another attempt, and where; a warning, and what is done about it."""
    if message.get("__typename") == "RunAttemptStarted" and message["attempt"] > 1:
        gpu = f" on {message['gpuType']}" if message["gpuType"] else ""
        return f"Attempt {message['attempt']} at {message['provider']}{gpu}"
    if message.get("__typename") == "RunWarned":
        stopping = " The run is stopped." if message["action"] == "STOP" else ""
        return f"{message['reason']}: {message['words']}{stopping}"
    return ""


def end_text(view: RunView) -> str:
    """How it ended, in rich's markup."""
    if view.status == "READY":
        where = f"It answers at {view.deployment_url}" if view.deployment_url else "Nothing of it is served."
        return f"[bold green]✓[/] The run is READY. {escape(where)}"
    if view.status == "CANCELED":
        where = f" ({view.error_message.rstrip('.')})" if view.error_message else ""
        return f"[yellow]■[/] The run was canceled{escape(where)}."
    why = ": ".join(text.rstrip(".") for text in (view.end_reason, view.error_message) if text)
    return f"[bold red]✗[/] The run is {view.status}{escape(f' ({why})' if why else '')}."


def seconds_text(seconds: float) -> str:
    """`9 s`, `2 min 05 s`, `3 h 07 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def curve(values: "deque[float]") -> str:
    """The values as bars, the least and the greatest at the edges."""
    low, high = min(values), max(values)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in values)


def _latest(view: RunView) -> list[str]:
    return [f"{name} {values[-1]:.4g}" for name, values in view.readings.items()]


def _metrics(view: RunView) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, values in view.readings.items():
        table.add_row(f"[dim]{escape(name)}[/]", f"{values[-1]:.4g}", f"[cyan]{curve(values)}[/]")
    return table


def _log_line(line: dict[str, Any]) -> Text:
    style = _LEVEL_STYLES.get(line["level"], "dim")
    return Text(f"│ {line['text']}", style=style, no_wrap=True, overflow="ellipsis")
