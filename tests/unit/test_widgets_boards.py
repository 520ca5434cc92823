"""I widget chiamano le azioni vere, dicono gli errori in italiano, e si fermano quando devono."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from labkit.errors import LabClosedError, LabError, PlanError
from labkit.model import NAMESPACES, Event, Feature, ProcessInfo, Snapshot, Step
from labkit.widgets.doctor_board import doctor_widget
from labkit.widgets.life_line import LifeLine
from labkit.widgets.namespace_map import NamespaceWidget, namespace_widget
from labkit.widgets.plan_stepper import PlanWidget, plan_widget

WIDGET = "application/vnd.jupyter.widget-view+json"


class HandMadeLab:
    """Un laboratorio di soli dati: i processi che gli si danno, gli errori che gli si chiedono."""

    def __init__(self) -> None:
        self.closed = False
        self.error: LabError | None = None
        self.calls = 0
        self.processes = [ProcessInfo(1, "notebook", dict.fromkeys(NAMESPACES, 7))]

    def namespaces(self) -> Snapshot:
        self.calls += 1
        if self.closed:
            raise LabClosedError("Il laboratorio è finito.", "lab = Lab()")
        if self.error:
            raise self.error
        return Snapshot(tuple(self.processes))

    def add(self, label: str, **changes: int) -> None:
        self.processes.append(ProcessInfo(9, label, {**dict.fromkeys(NAMESPACES, 7), **changes}))


class HandMadePlan:
    """Un piano di tre passi; ``refuse`` è il numero del passo che fallisce."""

    name = "web"

    def __init__(self, refuse: int = 0) -> None:
        self.refuse = refuse
        self.all = [Step(i, f"p{i}", f"fa la cosa {i}", "write", "write(2)", reversible=i != 3) for i in (1, 2, 3)]

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(self.all)

    @property
    def position(self) -> int:
        return sum(s.state == "done" for s in self.all)

    def step(self) -> Step:
        return self._next("done")

    def _next(self, state: Any) -> Step:
        i = self.position
        if i + 1 == self.refuse:
            self.all[i] = replace(self.all[i], state="failed", error="Il kernel ha detto di no.")
            raise PlanError("Il kernel ha detto di no.", "plan.undo()")
        self.all[i] = replace(self.all[i], state=state, microseconds=10.0 * (i + 1))
        return self.all[i]

    def undo(self) -> Step:
        i = self.position - 1
        if not self.all[i].reversible:
            raise PlanError("Questo passo non si può annullare da solo.", "plan.rollback()")
        self.all[i] = replace(self.all[i], state="undone")
        return self.all[i]

    def run(self) -> None:
        while self.position < len(self.all):
            self.step()

    def rollback(self) -> None:
        self.all = [replace(s, state="undone") if s.state == "done" else s for s in self.all]


def until(true: Any, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@pytest.fixture
def lab() -> HandMadeLab:
    return HandMadeLab()


@pytest.fixture
def seen(lab: HandMadeLab) -> Iterator[NamespaceWidget]:
    """Una mappa che qualcuno sta guardando."""
    widget = NamespaceWidget(lab, interval=0.01)
    show(widget, 1)
    yield widget
    widget.close()
    assert until(lambda: not widget.polling)


def show(widget: NamespaceWidget, views: int) -> None:
    """Quello che la pagina manda quando la mappa compare (1) o sparisce (-1)."""
    widget.map._handle_custom_msg({"views": views}, [])


def controls(widget: PlanWidget) -> list[bool]:
    return [not b.disabled for b in (widget.step_button, widget.undo_button, widget.run_button, widget.rollback_button)]


# --- the map


def test_a_map_nobody_looks_at_starts_no_thread(lab: HandMadeLab) -> None:
    before = threading.active_count()
    widget = namespace_widget(lab)
    assert threading.active_count() == before
    assert not widget.polling
    assert lab.calls == 1


def test_a_map_in_view_follows_the_lab(lab: HandMadeLab, seen: NamespaceWidget) -> None:
    assert seen.polling
    lab.add("web", net=8)
    assert until(lambda: "web" in seen.map.svg)
    assert until(lambda: seen.map.news == "Arrivato: web.")
    assert "rete (net): notebook e web ognuno per conto suo." in seen.words()


def test_nothing_is_sent_when_nothing_changes(lab: HandMadeLab, seen: NamespaceWidget) -> None:
    sent: list[Any] = []
    seen.map.observe(sent.append)
    calls = lab.calls
    assert until(lambda: lab.calls > calls + 3)
    assert sent == []


@pytest.mark.parametrize("how", ["view gone", "toggle off", "widget closed"])
def test_following_stops_when_it_should(seen: NamespaceWidget, how: str) -> None:
    if how == "view gone":
        show(seen, -1)
    elif how == "toggle off":
        seen.automatic.value = False
    else:
        seen.close()
    assert until(lambda: not seen.polling)


def test_following_starts_again_with_the_toggle(lab: HandMadeLab, seen: NamespaceWidget) -> None:
    seen.automatic.value = False
    assert until(lambda: not seen.polling)
    lab.add("web")
    seen.automatic.value = True
    assert until(lambda: "web" in seen.map.svg)


def test_the_thread_ends_with_the_lab_and_says_so(lab: HandMadeLab, seen: NamespaceWidget) -> None:
    lab.closed = True
    assert until(lambda: not seen.polling)
    assert seen.map.problem.startswith("Il laboratorio è chiuso")
    assert seen.refresh_button.disabled
    show(seen, 1)
    assert not seen.polling


def test_an_error_is_a_sentence_and_goes_away_when_solved(lab: HandMadeLab) -> None:
    widget = namespace_widget(lab)
    lab.error = LabError("Il laboratorio non risponde.", "riprova")
    widget.refresh_button.click()
    assert widget.map.problem == "Il laboratorio non risponde. Rimedio: riprova"
    lab.error = None
    lab.add("web")
    widget.refresh_button.click()
    assert widget.map.problem == ""
    assert "web" in widget.map.svg


@pytest.mark.parametrize("content", [{}, {"views": 99}, {"views": "1"}, "x", None, {"views": -1}])
def test_a_strange_message_from_the_page_is_ignored(lab: HandMadeLab, content: Any) -> None:
    widget = namespace_widget(lab)
    widget.map._handle_custom_msg(content, [])
    assert not widget.polling


# --- the plan


def test_buttons_really_move_the_plan() -> None:
    plan = HandMadePlan()
    widget = plan_widget(plan)
    assert controls(widget) == [True, False, True, False]
    widget.step_button.click()
    widget.step_button.click()
    assert plan.position == 2
    assert widget.drawing.news == "Passo 2, fatto: Fa la cosa 2."
    widget.undo_button.click()
    assert plan.position == 1
    assert widget.drawing.news == "Passo 2, annullato: Fa la cosa 2."
    assert controls(widget) == [True, True, True, True]
    widget.rollback_button.click()
    assert plan.position == 0
    assert widget.drawing.news.startswith("Annullato tutto")
    assert controls(widget) == [False, False, False, False]  # a plan rolled back cannot be taken up again


def test_run_finishes_the_plan_and_says_what_was_born() -> None:
    widget = plan_widget(HandMadePlan())
    assert "Piano «web»" in widget.drawing.svg
    widget.run_button.click()
    assert widget.drawing.news.startswith("Il container «web» è nato: 3 passi fatti su 3")
    assert controls(widget) == [False, True, False, True]


def test_a_failed_step_is_a_sentence_in_the_widget(capsys: pytest.CaptureFixture[str]) -> None:
    widget = plan_widget(HandMadePlan(refuse=2))
    widget.run_button.click()
    assert widget.drawing.problem == "Il kernel ha detto di no. Rimedio: plan.undo()"
    assert widget.drawing.news == ""
    assert "✘" in widget.drawing.svg
    assert capsys.readouterr() == ("", "")
    widget.undo_button.click()
    assert widget.drawing.problem == ""


def test_a_step_that_cannot_be_undone_explains_itself() -> None:
    widget = plan_widget(HandMadePlan())
    widget.run_button.click()
    widget.undo_button.click()
    assert widget.drawing.problem.startswith("Questo passo non si può annullare")


def test_a_click_already_on_its_way_does_nothing() -> None:
    plan = HandMadePlan()
    widget = plan_widget(plan)
    widget.rollback_button.click()
    widget.undo_button.click()
    assert widget.drawing.news == widget.drawing.problem == ""


def test_a_plan_moved_from_a_cell_is_shown_as_it_is() -> None:
    plan = HandMadePlan()
    widget = plan_widget(plan)
    plan.step()
    assert "1 passo fatto su 3." in repr(widget)
    assert "1 passo fatto su 3" in widget.drawing.svg


# --- the diagnosis


def test_the_filter_of_the_diagnosis() -> None:
    widget = doctor_widget(iter([Feature("a", "Uno", True), Feature("b", "Due", False, "perché", "sudo rimedio")]))
    assert "Uno" in widget.board.html
    widget.only_missing.value = True
    assert "Uno" not in widget.board.html
    assert "<code>sudo rimedio</code>" in widget.board.html
    assert "✔ Uno" in widget.words()  # the words always say everything


# --- all of them


def test_every_widget_says_everything_in_words_and_always_the_same() -> None:
    for make in (
        lambda: namespace_widget(HandMadeLab()),
        lambda: plan_widget(HandMadePlan()),
        lambda: doctor_widget([Feature("a", "Uno", False, "perché" * 40, "sudo rimedio")]),
    ):
        one, two = make(), make()
        bundle = one._repr_mimebundle_()
        assert bundle["text/plain"] == repr(one) == repr(two) == one.words()
        assert len(repr(one)) > 110  # ipywidgets alone would cut it there
        assert "0x" not in repr(one)
        assert bundle[WIDGET]["model_id"] == one.model_id


def test_every_drawing_has_its_plain_javascript_file() -> None:
    for drawing in (
        namespace_widget(HandMadeLab()).map,
        plan_widget(HandMadePlan()).drawing,
        doctor_widget([]).board,
    ):
        source = str(drawing._esm)
        assert "export default { render }" in source
        assert "://" not in source
        assert "import " not in source
        assert "aria-live" in source
        assert "prefers-reduced-motion" in str(drawing._css)
        assert "focus-visible" in str(drawing._css)


# ---- the life line


class Diary:
    """Un laboratorio di soli eventi."""

    def __init__(self) -> None:
        self.closed = False
        self.told: list[Event] = []

    def events(self, *, filters: Any = None) -> list[Event]:
        if self.closed:
            raise LabClosedError("Il laboratorio è finito.", "lab = Lab()")
        wanted = (filters or {}).get("container")
        return [event for event in self.told if not wanted or event.name in wanted]

    def note(self, action: str, name: str = "web", **details: Any) -> None:
        self.told.append(Event(float(len(self.told)), action, name, details, name))


def test_the_life_line_grows_while_someone_looks() -> None:
    diary = Diary()
    diary.note("create")
    line = LifeLine(diary, interval=0.01)
    assert repr(line) == "web: creato"
    line._on_message(None, {"views": 1}, None)
    diary.note("start")
    assert until(lambda: line.words() == "web: creato → gira")
    assert until(lambda: line.line.news == "web: gira.")
    assert "web: gira" in line.line.svg
    diary.closed = True
    assert until(lambda: not line.polling)
    assert "Il laboratorio è chiuso" in line.line.problem
    line.close()


def test_the_life_line_shows_whom_it_was_asked() -> None:
    diary = Diary()
    for name in ("uno", "due"):
        diary.note("create", name)
    assert repr(LifeLine(diary, ["due"])) == "due: creato"
