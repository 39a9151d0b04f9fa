"""The web pages of a running installation in a real Chromium: live data, hostile titles, a task's way, an order.

One installation and one browser for the whole module; each test has a pool of its own.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, sync_playwright

from schemas.dead_letters import dead_letter_headers
from streams.web.access import ROLES, new_token
from tests.conftest import CHROMIUM_NAMES
from tests.functional.commands import Up, until
from tests.functional.test_dlq import produce, task

pytestmark = pytest.mark.browser

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--no-first-run"),
]
#: Every page that shows what is; a task's page is added where there is one.
PAGES = (
    *("/", "/ui/fleet", "/ui/waiting", "/ui/tasks", "/ui/decisions", "/ui/routing", "/ui/analytics", "/ui/flow"),
    *("/ui/dead-letters", "/ui/what-if", "/ui/controls"),
)
#: Width and height of a phone.
PHONE: Final = {"width": 390, "height": 800}
WAIT_MS = 150_000
#: What axe calls a finding that keeps people from using a page.
SERIOUS = ("serious", "critical")
_FORMS = (
    "<script>window.ran = 1</script>",
    "<img src=x onerror='window.ran = 1'>",
    "\"><svg onload='window.ran = 1'>",
    "'><iframe srcdoc='<script>parent.ran = 1</script>'>",
    "<a href='javascript:window.ran = 1'>x</a>",
    "</title></textarea></script><script>alert(1)</script>",
    "{{ cycler.__init__.__globals__ }}",
    "{% for x in range(9) %}x{% endfor %}",
    "<style>*{display:none}</style>",
    "safe\u202egnp.exe \u2066x\u2069",
)


class Stack:
    """An installation with tokens, and the ways to it."""

    def __init__(self, up: Up, token: str) -> None:
        self.up, self.token = up, token

    @property
    def http(self) -> str:
        """Its address."""
        return self.up.at.http

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the HTTP API."""
        content = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}"} | ({"Content-Type": "application/json"} if content else {})
        request = urllib.request.Request(self.http + path, content, headers, method=method)
        with urllib.request.urlopen(request, timeout=70) as reply:
            raw = reply.read()
            return json.loads(raw) if raw else None

    def slots(self, pool: str, *slots: str) -> None:
        """Announce slots, `haiku-1` for one that runs haiku."""
        for slot in slots:
            self.ask("POST", "/slots", {"slot_id": slot, "pool": pool, "model": slot.rpartition("-")[0]})

    def task(self, pool: str, task_id: str, **fields: Any) -> None:
        """Submit a task, and wait until it is known."""
        self.ask("POST", "/tasks", {"task_id": task_id, "pool": pool, **fields})
        self.ask("GET", f"/tasks/{task_id}?pool={pool}&wait_for=known&wait_s=60")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Give an installation for this module, with one token of every role."""
    with tempfile.TemporaryDirectory(prefix="slotwise-up-") as directory:
        token, line = new_token(ROLES, "ops")
        tokens = Path(directory) / "tokens.txt"
        tokens.write_text(f"{line}\n")
        with Up(Path(directory), "--http-tokens", str(tokens)) as up:
            made = Stack(up, token)
            until(lambda: made.ask("GET", "/health")["journal"]["ready"], "the state is known")
            yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give a Chromium of the machine."""
    path = next(filter(None, map(shutil.which, CHROMIUM_NAMES)))
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield started
        started.close()


class Seen:
    """A page and what happened on it that must not."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        page.on("dialog", self._dismiss)
        page.on("console", lambda one: self.faults.append(one.text) if one.type == "error" else None)
        page.on("pageerror", lambda one: self.faults.append(str(one)))
        page.add_init_script(
            "window.reports = []; document.addEventListener('securitypolicyviolation', "
            "(e) => window.reports.push(e.violatedDirective + ' ' + e.blockedURI));"
        )

    def _dismiss(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def reports(self) -> list[str]:
        """Return what the policy of contents refused."""
        found: list[str] = self.page.evaluate("window.reports")
        return found


@pytest.fixture(scope="module")
def context(stack: Stack, browser: Browser) -> Iterator[BrowserContext]:
    """Give a browser that has logged in by the form."""
    made = browser.new_context()
    made.set_default_timeout(WAIT_MS)
    page = made.new_page()
    page.goto(f"{stack.http}/ui/login?to=/ui/waiting")
    page.fill("#token", stack.token)
    page.click("main form button")
    page.wait_for_url("**/ui/waiting")
    assert [cookie["httpOnly"] for cookie in made.cookies()] == [True]
    page.close()
    yield made
    made.close()


@pytest.fixture
def seen(context: BrowserContext) -> Iterator[Seen]:
    """Give a page, and check at the end that nothing ran on it."""
    page = context.new_page()
    one = Seen(page)
    yield one
    assert one.faults == []
    page.close()


def test_a_task_is_followed_from_pending_to_explained(stack: Stack, seen: Seen) -> None:
    """It waits and the page says for what; a slot comes, and the open page shows where it went and why."""
    stack.task("way", "w-1", title="Fix typo in README", requires={"coding": 4})
    page = seen.page
    page.goto(f"{stack.http}/ui/waiting?pool=way")
    page.get_by_text("The pool has no slot yet.").wait_for()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/ui/tasks/w-1**")
    page.get_by_text("It has waited for").wait_for()
    stack.slots("way", "haiku-1")
    page.get_by_text("It runs on haiku-1").wait_for()  # nothing was pressed: the page is live
    stack.slots("way", "opus-1")  # after the decision, in whose step it could have been free
    says = "way had no slot of opus."
    until(lambda: says in page.content(), "why not opus, as soon as the audit has the decision")
    assert "Lowest capable tier for coding>=4" in page.inner_text(".sentence")
    lease = stack.ask("GET", "/tasks/next?slot=haiku-1&pool=way")["lease"]
    outcome = {"pool": "way", "lease": lease, "outcome": {"task_id": "w-1", "status": "success", "cost_usd": 0.02}}
    stack.ask("POST", "/slots/haiku-1/freed", outcome)
    page.get_by_text("It ended").first.wait_for()
    until(lambda: "$0.0200" in page.content(), "what the work cost, in its history")


def test_every_page_is_live_and_whole_without_a_script(stack: Stack, seen: Seen, browser: Browser) -> None:
    """A slot that is announced appears by itself; without JavaScript the same page has it too."""
    page = seen.page
    page.goto(f"{stack.http}/ui/fleet?pool=live")
    stack.slots("live", "haiku-1")
    page.locator(".box", has_text="haiku-1").wait_for()
    plain = browser.new_context(java_script_enabled=False)
    try:
        plain.add_cookies(page.context.cookies())  # type: ignore[arg-type]
        bare = plain.new_page()
        for path in PAGES:
            answer = bare.goto(f"{stack.http}{path}")
            assert answer is not None
            assert answer.status == 200
            assert len(answer.body()) < 100_000
            assert bare.locator("h1").count() == 1
    finally:
        plain.close()


def test_a_hundred_hostile_titles_are_only_text(stack: Stack, seen: Seen) -> None:
    """No dialog, no script of theirs, no report of the policy of contents, on every page that shows them."""
    titles = [form.replace("window.ran = 1", f"window.ran = {n}") for n in range(10) for form in _FORMS]
    tasks = [
        {"task_id": f"h-{n}", "pool": "hostile", "title": title, "lane": title[:100], "tenant_id": title[:100]}
        for n, title in enumerate(titles)
    ]
    assert len(tasks) == 100
    stack.slots("hostile", "haiku-1", "opus-1")
    stack.ask("POST", "/tasks", tasks)
    until(lambda: stack.ask("GET", "/waiting?pool=hostile")["total"] == 98, "all wait but two")
    page = seen.page
    for path in (
        *PAGES,
        "/ui/waiting?pool=hostile&after=1~hostile~h-1",
        "/ui/fleet?pool=hostile",
        "/ui/tasks/h-9?pool=hostile",
    ):
        page.goto(f"{stack.http}{path}")
        assert page.evaluate("window.ran") is None
        assert seen.reports() == []
        assert "\u202e" not in page.content()
    page.goto(f"{stack.http}/ui/waiting?pool=hostile")
    assert page.get_by_text("<script>window.ran = 3</script>").count() >= 1
    assert "\\u202e" in page.inner_text("main")


def test_an_operator_drains_a_model_and_sees_it(stack: Stack, seen: Seen) -> None:
    """What it will do is said, it is asked once, its event is shown, and the fleet shows the mark."""
    stack.slots("orders", "opus-1", "haiku-1")
    page = seen.page
    page.goto(f"{stack.http}/ui/controls?order=drain&pool=orders&model=opus")
    page.get_by_role("button", name="What will it do?").click()
    page.get_by_text("opus has 1 slot here, of which 0 have a task.").wait_for()
    page.get_by_role("button", name="Drain a model").click()
    page.get_by_role("heading", name="It is in force.").wait_for()
    assert '"kind": "model.drained"' in page.inner_text("main")
    page.goto(f"{stack.http}/ui/fleet?pool=orders")
    page.get_by_text("opus is drained").first.wait_for()
    page.goto(f"{stack.http}/ui/controls?order=restore&pool=orders&name=opus")
    page.get_by_role("button", name="What will it do?").click()
    page.get_by_role("button", name="Restore a model or a product").click()
    page.get_by_role("heading", name="It is in force.").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(stack: Stack, browser: Browser, context: BrowserContext, scheme: Any) -> None:
    """Names, roles, contrast and order, on every page and that of a task, in both colour schemes."""
    stack.slots(f"axe-{scheme}", "haiku-1", "opus-1")
    for number in range(4):
        stack.task(f"axe-{scheme}", f"a-{number}", title="Fix typo", lane="docs", tenant_id="acme")
    axe = (files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
    made = browser.new_context(color_scheme=scheme)
    try:
        made.add_cookies(context.cookies())  # type: ignore[arg-type]
        page = made.new_page()
        found = []
        for path in (*PAGES, f"/ui/tasks/a-0?pool=axe-{scheme}", f"/ui/tasks/a-3?pool=axe-{scheme}", "/ui/nothing"):
            page.goto(f"{stack.http}{path}")
            page.evaluate(axe)
            result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            found += [
                f"{path}: {one['id']}: {node['html']}"
                for one in result["violations"]
                if one["impact"] in SERIOUS
                for node in one["nodes"][:3]
            ]
        assert found == []
    finally:
        made.close()


def test_every_page_fits_a_phone(stack: Stack, browser: Browser, context: BrowserContext) -> None:
    """Nothing sticks out to the right, also of tables with rows: what is wide scrolls within the page."""
    stack.slots("phone", "haiku-1", "opus-1")
    for number in range(4):
        stack.task("phone", f"p-{number}", title="A long title " * 8, lane="docs", tenant_id="acme", ev=float(number))
    made = browser.new_context(viewport=PHONE)  # type: ignore[arg-type]
    try:
        made.add_cookies(context.cookies())  # type: ignore[arg-type]
        page = made.new_page()
        for path in PAGES:
            page.goto(f"{stack.http}{path}")
            if path in {"/ui/waiting", "/ui/decisions"}:
                page.wait_for_selector("tbody tr")
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
    finally:
        made.close()


def test_an_operator_replays_a_dead_letter(stack: Stack, seen: Seen) -> None:
    """Where it would go is shown first; it is sent again, is decided about, and the page says by whom."""
    stack.slots("dead", "haiku-1")
    headers = dead_letter_headers("task.pending", 0, 7, "Refused for a test.", ())
    produce(stack.up, "task.pending.dlq", "dead", task("dead", "again-1"), headers=headers)
    page, path = seen.page, "/ui/dead-letters?reason=refused+for+a+test"

    def offered() -> bool:
        page.goto(f"{stack.http}{path}")
        return page.get_by_role("button", name="Replay the 1 new one here").count() == 1

    until(offered, "the page has read the dead letter")
    page.get_by_role("button", name="Replay the 1 new one here").click()
    page.get_by_role("heading", name="Replay 1 dead letter: is this meant?").wait_for()
    assert "(again-1) will be sent to task.pending[" in page.inner_text("main")
    page.get_by_role("button", name="Replay", exact=True).click()
    page.get_by_role("heading", name="1 dead letter was replayed.").wait_for()
    found = stack.ask("GET", "/tasks/again-1?pool=dead&wait_for=routed&wait_s=60")
    assert found["decision"]["outcome"] == "routed"
    page.goto(f"{stack.http}{path}")
    page.get_by_text("by ops at").wait_for()


def test_the_keys_of_the_help_do_what_it_says(stack: Stack, seen: Seen) -> None:
    """`?` opens it, `/` goes to the search, which leads to a task by its id; `p` pauses."""
    stack.task("keys", "k-1", title="Find me")
    page = seen.page
    page.goto(f"{stack.http}/")
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("p")
    page.get_by_text("paused").wait_for()
    page.keyboard.press("/")
    page.keyboard.type("k-1")
    page.keyboard.press("Enter")
    page.wait_for_url("**/ui/tasks/k-1**")
    page.get_by_role("heading", name="Find me").wait_for()
