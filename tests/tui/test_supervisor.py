"""Claims about the programs that `swarmtop` starts: they are restarted when they end, a few times, and it is said."""

from __future__ import annotations

from pathlib import Path

import dash_fakes as fakes
import pytest

from swarmtop.dashboard.app import Dashboard
from swarmtop.errors import UNUSABLE
from swarmtop.local.child_process import Child, how_ended
from swarmtop.local.supervisor import RESTART_AFTER_S, SETTLED_S, Supervisor


class Pretended:
    """A child that ends when a test says so."""

    name = "swarm-probe"
    log = Path("probe.log")
    is_read = True

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self.ended = False

    def died(self) -> str | None:
        return None if self.exit_code is None else f"{self.name} {how_ended(self.exit_code)}; its log is {self.log}"

    def end(self) -> None:
        self.ended = True


class Started:
    """Starts pretended children, and keeps them."""

    def __init__(self) -> None:
        self.children: list[Pretended] = []
        self.refuses = False

    def __call__(self, *, again: bool) -> Child:
        if self.refuses:
            raise OSError(12, "Cannot allocate memory")
        assert again is bool(self.children)  # a later one continues the log
        self.children.append(Pretended())
        return self.children[-1]  # type: ignore[return-value]


@pytest.fixture
def started() -> Started:
    return Started()


def supervisor(started: Started) -> Supervisor:
    return Supervisor(started, 0.0, "the probe has ended")


def test_a_killed_program_is_started_again_at_once_and_it_is_said_once(started: Started) -> None:
    one = supervisor(started)
    assert one.poll(1.0) == ""
    started.children[0].exit_code = -9
    assert one.poll(2.0) == "swarm-probe was killed (SIGKILL); starting it again"
    assert [one.poll(2.25), one.poll(2.5)] == ["", ""]
    assert len(started.children) == 2
    one.end()
    assert started.children[1].ended


def test_a_program_that_keeps_ending_is_started_ever_later_and_then_given_up(started: Started) -> None:
    one = supervisor(started)
    now_s, said = 0.0, []
    for _ in range(400):
        started.children[-1].exit_code = 1
        said += filter(None, [one.poll(now_s)])
        now_s += 0.25
    assert said == [
        "swarm-probe ended by itself (exit code 1); starting it again",
        "swarm-probe ended by itself (exit code 1); starting it again in 2 s",
        "swarm-probe ended by itself (exit code 1); starting it again in 5 s",
        "swarm-probe ended by itself (exit code 1); starting it again in 15 s",
        "swarm-probe ended by itself (exit code 1); starting it again in 30 s",
        "the probe has ended: quit, and start swarmtop again (swarm-probe ended by itself (exit code 1); "
        "its log is probe.log; it ended 6 times within a short time)",
    ]
    assert one.trouble == said[-1]
    assert len(started.children) == 1 + len(RESTART_AFTER_S)


def test_a_program_that_ran_for_long_starts_with_the_first_delay_again(started: Started) -> None:
    one = supervisor(started)
    now_s = 0.0
    for _ in range(3 * len(RESTART_AFTER_S)):
        now_s += SETTLED_S
        started.children[-1].exit_code = -15
        assert one.poll(now_s) == "swarm-probe was killed (SIGTERM); starting it again"
        one.poll(now_s)
    assert one.trouble == ""


def test_a_program_with_unusable_arguments_is_not_started_again(started: Started) -> None:
    """A probe that the operator refuses for good ends so: each further try would be refused too."""
    one = supervisor(started)
    started.children[0].exit_code = UNUSABLE
    told = (
        "the probe has ended: quit, and start swarmtop again "
        "(swarm-probe ended by itself (exit code 2); its log is probe.log)"
    )
    assert one.poll(1.0) == told
    assert [one.poll(99.0), one.trouble, len(started.children)] == ["", told, 1]


def test_a_program_that_cannot_be_started_again_is_given_up(started: Started) -> None:
    one = supervisor(started)
    started.children[0].exit_code = -9
    one.poll(1.0)
    started.refuses = True
    assert one.poll(2.0) == (
        "the probe has ended: quit, and start swarmtop again (swarm-probe cannot be started: Cannot allocate memory)"
    )


def test_the_last_words_of_a_program_are_waited_for_but_not_for_ever(started: Started) -> None:
    """A child of its own may hold its output open."""
    one = supervisor(started)
    started.children[0].exit_code, started.children[0].is_read = -9, False
    assert [one.poll(1.0), one.poll(1.5)] == ["", ""]
    assert one.poll(2.0).startswith("swarm-probe was killed")


def test_a_signal_without_a_name_has_its_number() -> None:
    assert how_ended(-200) == "was killed (signal 200)"


class Programs:
    def __init__(self) -> None:
        self.news: list[str] = []
        self.trouble = ""

    def poll(self) -> list[str]:
        said, self.news = self.news, []
        return said


async def test_the_dashboard_says_what_happens_to_the_programs_and_goes_on_saying_what_does_not_run() -> None:
    """A killed probe of this machine was told nowhere: its node was lost after twenty seconds, as any other's."""
    programs = Programs()
    app = Dashboard(fakes.FakeSource(fakes.swarm()), fakes.options(programs=programs))
    async with app.run_test(size=(120, 34)) as pilot:
        await fakes.ready(app, pilot)
        programs.news = ["swarm-probe was killed (SIGKILL); starting it again"]
        await fakes.until(pilot, lambda: "· note swarm-probe was killed (SIGKILL)" in fakes.screen_text(app))
        assert "x this machine" not in "\n".join(alert_lines(app))
        programs.trouble = "the probe has ended: quit, and start swarmtop again"
        app.session.dirty = True
        await fakes.settle(app, pilot)
        assert "x this machine  the probe has ended: quit, and start swarmtop again" in alert_lines(app)


def alert_lines(app: Dashboard) -> list[str]:
    from swarmtop.dashboard.lines.header_footer import alerts

    view = app.session.view(fakes.NOW_NS)
    assert view is not None
    return ["".join(text for text, _ in line) for line in alerts(view)]
