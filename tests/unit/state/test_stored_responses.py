"""The store of responses keeps within its bounds, drops what was not used for longest, and forgets in time."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from support.waiting import until

from gateway.state.responses import ResponseStore
from gateway.state.settings import ResponseSettings


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Model:
    """What the store should hold, least recently used first: a plain list of ids, data and last uses."""

    def __init__(self, count: int, most_bytes: int, seconds: float) -> None:
        self.kept: list[tuple[str, bytes, float]] = []
        self.count, self.bytes, self.seconds = count, most_bytes, seconds

    def live(self, now: float) -> list[tuple[str, bytes, float]]:
        return [entry for entry in self.kept if now < entry[2] + self.seconds]

    def add(self, name: str, data: bytes, now: float) -> None:
        self.kept = [entry for entry in self.kept if entry[0] != name]
        if not self.count or len(data) > self.bytes:
            return
        self.kept.append((name, data, now))
        while len(self.kept) > self.count or sum(len(entry[1]) for entry in self.kept) > self.bytes:
            self.kept.pop(0)

    def get(self, name: str, now: float) -> bytes | None:
        self.kept = self.live(now)
        found = next((entry for entry in self.kept if entry[0] == name), None)
        if found is None:
            return None
        self.kept.remove(found)
        self.kept.append((name, found[1], now))
        return found[1]

    def delete(self, name: str, now: float) -> bool:
        self.kept = self.live(now)
        before = len(self.kept)
        self.kept = [entry for entry in self.kept if entry[0] != name]
        return len(self.kept) < before


NAMES = st.sampled_from("abcde")
STEPS = st.lists(
    st.tuples(st.just("add"), NAMES, st.binary(max_size=6))
    | st.tuples(st.sampled_from(["get", "delete"]), NAMES, st.none())
    | st.tuples(st.just("wait"), st.none(), st.integers(1, 50)),
    max_size=40,
)


@given(STEPS, st.integers(0, 4), st.integers(1, 12))
def test_it_does_what_a_plain_list_would(steps: list[tuple], count: int, most_bytes: int) -> None:
    async def follow() -> None:
        clock = Clock()
        store = ResponseStore(ResponseSettings(count=count, bytes=most_bytes, minutes=1), clock)
        model = Model(count, most_bytes, 60)
        for what, name, value in steps:
            if what == "wait":
                clock.now += value
            elif what == "add":
                await store.add(name, value)
                model.add(name, value, clock.now)
            elif what == "get":
                assert await store.get(name) == model.get(name, clock.now)
            else:
                assert await store.delete(name) == model.delete(name, clock.now)

    asyncio.run(follow())


async def test_what_has_expired_leaves_the_memory_though_nobody_asks() -> None:
    store = ResponseStore(ResponseSettings(minutes=0.0005))
    await store.add("a", b"private enough")
    await until(lambda: store.bytes == 0)


async def test_a_count_of_nothing_keeps_nothing() -> None:
    store = ResponseStore(ResponseSettings(count=0))
    assert not store.is_enabled
    await store.add("a", b"1")
    assert await store.get("a") is None
