"""Policy files that change under a running gateway: the new ones are in force without a restart or a lost request."""

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.gateways import Gateway, StartGateway, settings_of, simple_calibrator, simple_policy, upstream
from support.scripted_server import Reply, Scripted
from support.waiting import until

from gateway.catalog.live_policies import LivePolicies
from policies.loading.policy_files import PolicyFiles, Stamps
from policies.schema.policy import Policy

ASK = {"messages": [{"role": "user", "content": "What is the opposite of hot?"}]}
UNSURE = Reply("Maybe cold.", logprobs=-0.8)  # confidence 0.69 by the simple calibrator
LOOK = 0.02


def policy(accept: float, more: str = "") -> str:
    return (
        f"description: For tests.\nrouter: {{kind: cascade, accept: {accept}, calibrator: own.json}}\n{more}"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the policy `mine`, which accepts what UNSURE drafts."""
    path = tmp_path / "policies"
    path.mkdir()
    (path / "own.json").write_text(simple_calibrator().model_dump_json())
    (path / "mine.yaml").write_text(policy(0.5))
    return path


@pytest.fixture
async def live(start: StartGateway, slm: Scripted, llm: Scripted, folder: Path) -> Gateway:
    """A gateway that follows the folder; `test` stands beside its policies."""
    slm.says(UNSURE)
    settings = settings_of(
        upstream(slm, "slm"), upstream(llm, "llm"), policies={"folder": folder, "reload": LOOK}
    )
    return await start(settings, [simple_policy()])


async def names(gateway: Gateway) -> set[str]:
    _, listed = await gateway.get("/v1/models")
    return {model["id"] for model in listed["data"]}


async def reason(gateway: Gateway, model: str = "mine") -> str:
    status, headers, raw = await gateway.post("/chat/completions", ASK | {"model": model})
    assert status == 200, raw
    return headers["x-smallfirst-reason"]


async def metric(gateway: Gateway, name: str) -> float:
    async with gateway.http.get(f"{gateway.root}/metrics") as response:
        text = await response.text()
    return next(
        float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"smallfirst_{name}")
    )


async def failed_loads(gateway: Gateway) -> float:
    return await metric(gateway, 'policy_reloads_total{outcome="error"}')


async def loads(gateway: Gateway) -> float:
    return await metric(gateway, 'policy_reloads_total{outcome="ok"}')


async def loaded(gateway: Gateway, change: Callable[[], Any]) -> None:
    """Makes a change, and waits until it is in force."""
    before = await loads(gateway)
    change()
    await until(lambda: _above(loads(gateway), before))


async def _above(value: Awaitable[float], than: float) -> bool:
    return await value > than


async def test_a_new_file_is_served_and_a_removed_one_is_not(live: Gateway, folder: Path):
    assert "new" not in await names(live)
    await loaded(live, lambda: (folder / "new.yaml").write_text(policy(0.5)))
    assert {"new", "mine", "test", "offline"} <= await names(live)
    assert await reason(live, "new") == "confident"
    await loaded(live, (folder / "new.yaml").unlink)
    assert "new" not in await names(live)
    status, _, raw = await live.post("/chat/completions", ASK | {"model": "new"})
    assert (status, json.loads(raw)["error"]["code"]) == (404, "model_not_found")


def in_place(path: Path, text: str) -> None:
    path.write_text(text)


def by_renaming(path: Path, text: str) -> None:
    other = path.with_suffix(".tmp")
    other.write_text(text)
    os.replace(other, path)


def as_it_was_dated(path: Path, text: str) -> None:
    """In place, of the same size, with its time put back: only the inode's own change time tells."""
    assert len(path.read_text()) == len(text)
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def by_linking(path: Path, text: str) -> None:
    """As Kubernetes mounts a changed ConfigMap: the files stay links, and what they lead to is another folder."""
    other = path.parent / f"..data-{len(list(path.parent.iterdir()))}"
    other.mkdir()
    (other / path.name).write_text(text)
    link = path.parent / "link"
    link.symlink_to(other / path.name)
    os.replace(link, path)


@pytest.mark.parametrize("write", [in_place, by_renaming, as_it_was_dated, by_linking])
async def test_an_edit_is_in_force_however_it_was_written(
    live: Gateway, folder: Path, write: Callable[[Path, str], None]
):
    assert await reason(live) == "confident"
    await loaded(live, lambda: write(folder / "mine.yaml", policy(0.8)))
    assert await reason(live) == "low_confidence"
    await loaded(live, lambda: write(folder / "mine.yaml", policy(0.6)))
    assert await reason(live) == "confident"


async def test_an_edit_of_a_base_reaches_what_extends_it(live: Gateway, folder: Path):
    extending = "description: Mine.\nextends: mine\n"
    await loaded(live, lambda: (folder / "new.yaml").write_text(extending))
    assert await reason(live, "new") == "confident"
    await loaded(live, lambda: (folder / "mine.yaml").write_text(policy(0.8)))
    assert await reason(live, "new") == "low_confidence"


async def test_a_calibrator_is_followed_too(live: Gateway, folder: Path):
    sceptical = simple_calibrator().model_copy(update={"center": (1.0,)})
    await loaded(live, lambda: (folder / "own.json").write_text(sceptical.model_dump_json()))
    assert await reason(live) == "low_confidence"


async def test_a_bad_edit_leaves_all_policies_as_they_were_and_is_told(
    live: Gateway, folder: Path, caplog: pytest.LogCaptureFixture
):
    assert await metric(live, "policies_stale") == 0.0
    (folder / "mine.yaml").write_text(policy(0.8, "colour: red\n"))
    (folder / "new.yaml").write_text(policy(0.5))
    await until(lambda: _above(failed_loads(live), 0))
    assert "new" not in await names(live)
    assert await reason(live) == "confident"
    assert await metric(live, "policies_stale") == 1.0
    assert {record.getMessage() for record in caplog.records if record.levelname == "ERROR"} == {
        f"policies stay as they were: {folder / 'mine.yaml'}:3: colour: unknown key"
    }
    await loaded(live, lambda: (folder / "mine.yaml").write_text(policy(0.8)))
    assert await metric(live, "policies_stale") == 0.0
    assert "new" in await names(live)
    assert await reason(live) == "low_confidence"


def write_brackets(path: Path) -> None:
    path.write_text("router: " + "[" * 3000)


def write_much(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(17 * 2**20)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (os.mkfifo, "Not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "Not a regular file"),
        (Path.mkdir, "Is a directory"),
        (write_brackets, "is nested too deeply: expected at most 64 levels"),
        (write_much, "Larger than 16777216 bytes"),
    ],
    ids=["a pipe", "a device", "a folder", "brackets", "a large file"],
)
@pytest.mark.parametrize("name", ["new.yaml", "later.json"])
async def test_what_is_no_file_to_read_stops_neither_the_watch_nor_the_end(
    live: Gateway,
    folder: Path,
    make: Callable[[Path], None],
    expected: str,
    name: str,
    caplog: pytest.LogCaptureFixture,
):
    if name == "later.json":
        (folder / "next.yaml").write_text(policy(0.5).replace("own", "later"))
        expected = "Invalid JSON" if make is write_brackets else expected
    make(folder / name)
    await until(lambda: _above(failed_loads(live), 0) if expected in caplog.text else asyncio.sleep(0))
    assert await reason(live) == "confident"
    for path in (folder / name, folder / "next.yaml"):
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
    await loaded(live, lambda: (folder / "mine.yaml").write_text(policy(0.8)))
    assert await reason(live) == "low_confidence"


async def test_a_calibrator_that_is_missing_at_first_is_waited_for(
    live: Gateway, folder: Path, caplog: pytest.LogCaptureFixture
):
    (folder / "new.yaml").write_text(policy(0.5).replace("own", "later"))
    await until(lambda: _above(failed_loads(live), 0))
    assert f"{folder / 'new.yaml'}:2: router.calibrator: {folder / 'later.json'}: No such file" in caplog.text
    await loaded(live, lambda: (folder / "later.json").write_text(simple_calibrator().model_dump_json()))
    assert await reason(live, "new") == "confident"


async def test_a_folder_that_is_gone_leaves_the_policies_and_is_read_when_it_is_back(
    live: Gateway, folder: Path, caplog: pytest.LogCaptureFixture
):
    folder.rename(folder.with_name("away"))
    await until(lambda: _above(failed_loads(live), 0))
    assert f"policies.folder: {folder} is not a folder that can be read" in caplog.text
    assert await reason(live) == "confident"
    await loaded(live, lambda: folder.with_name("away").rename(folder))
    assert await metric(live, "policies_stale") == 0.0


async def test_a_policy_that_can_not_be_served_is_told_and_the_others_are(
    live: Gateway, folder: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING, logger="gateway")
    (folder / "other.json").write_text(simple_calibrator(model="other").model_dump_json())
    other = policy(0.5).replace("own.json", "other.json")
    await loaded(live, lambda: (folder / "new.yaml").write_text(other))
    assert "policy new is not served: its calibrator is made for other on openai" in caplog.text
    assert "new" not in await names(live)
    assert await reason(live) == "confident"


async def test_an_exchange_goes_on_with_the_policy_that_it_began_with(
    live: Gateway, folder: Path, slm: Scripted
):
    gate = asyncio.Event()
    slm.says(Reply("Maybe cold.", logprobs=-0.8, gate=gate), UNSURE)
    before = asyncio.create_task(reason(live))
    await slm.arrived.wait()
    await loaded(live, lambda: (folder / "mine.yaml").write_text(policy(0.8)))
    assert await reason(live) == "low_confidence"
    gate.set()
    assert await before == "confident"


async def test_no_request_fails_while_files_are_edited(live: Gateway, folder: Path):
    """Twenty edits, good and bad, in place and by renaming, under eight clients that never rest."""
    over = asyncio.Event()
    reasons: set[str] = set()
    count = 0

    async def ask() -> None:
        nonlocal count
        while not over.is_set():
            reasons.add(await reason(live))
            count += 1

    async with asyncio.TaskGroup() as clients:
        for _ in range(8):
            clients.create_task(ask())
        for number in range(20):
            write = (in_place, by_renaming)[number % 2]
            if number % 5 == 4:
                failed = await failed_loads(live)
                write(folder / "mine.yaml", policy(2.0))
                await until(lambda failed=failed: _above(failed_loads(live), failed))  # type: ignore[misc]
            else:
                accept = (0.8, 0.6)[number // 2 % 2] + number / 1000
                await loaded(live, lambda w=write, a=accept: w(folder / "mine.yaml", policy(a)))  # type: ignore[misc]
        over.set()
    assert count > 20
    assert reasons == {"confident", "low_confidence"}


async def test_without_looking_the_files_are_loaded_when_asked(
    start: StartGateway, slm: Scripted, folder: Path
):
    settings = settings_of(upstream(slm, "slm"), policies={"folder": folder, "reload": None})
    gateway = await start(settings)
    await loaded(
        gateway, lambda: ((folder / "new.yaml").write_text(policy(0.5)), gateway.app.policies.reload())
    )
    assert "new" in await names(gateway)


# --- the watch, with files that do as a test says


class Told(PolicyFiles):
    """Files whose looks are told, the last one repeated; a load finds what the look before it found, and raises
    what `fails` holds. `rested` is set once the last look was taken three times more."""

    def __init__(self, *looks: int) -> None:
        super().__init__(None)
        self.now, *self.left = [told(version) for version in looks]
        self.left += [self.now, *self.left][-1:] * 3
        self.loads: list[Stamps] = []
        self.fails: list[Exception] = []
        self.rested = asyncio.Event()

    def read_stamps(self) -> Stamps:
        if self.left:
            self.now = self.left.pop(0)
        else:
            self.rested.set()
        return self.now

    def load(self) -> dict[str, Policy]:
        self.stamps = self.now
        self.loads.append(self.now)
        if self.fails:
            raise self.fails.pop()
        return {}


def told(version: int) -> Stamps:
    return {Path("mine.yaml"): (version, 0, 0, 0)}


async def rested(files: Told, policies: LivePolicies) -> None:
    async with policies.watch():
        await until(files.rested.is_set)  # in a thread


@pytest.mark.parametrize(
    ("looks", "loads"),
    [
        ((0,), [0]),
        ((0, 1, 1), [0, 1]),
        ((0, 1, 2, 3, 3), [0, 3]),
        ((0, 1, 0), [0]),
        ((0, 1, 1, 2, 2, 3), [0, 1, 2, 3]),
    ],
)
async def test_files_are_loaded_once_they_rest(looks: tuple[int, ...], loads: list[int]):
    files, succeeded = Told(*looks), list[bool]()
    await rested(files, LivePolicies(files, [], {}, succeeded.append, period_s=0.001))
    assert files.loads == [told(version) for version in loads]
    assert succeeded == [True] * (len(loads) - 1)


async def test_a_load_that_fails_unforeseen_does_not_end_the_watch(caplog: pytest.LogCaptureFixture):
    files, succeeded = Told(0, 1, 1, 2), list[bool]()
    policies = LivePolicies(files, [simple_policy()], {}, succeeded.append, period_s=0.001)
    files.fails.append(RuntimeError("odd"))
    await rested(files, policies)
    assert files.loads == [told(0), told(1), told(2)]
    assert succeeded == [False, True]
    assert "RuntimeError: odd" in caplog.text
    assert "test" in policies.catalog.policies
