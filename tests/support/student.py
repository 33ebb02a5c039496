"""A small model that answers the starter set's items: which ones rightly, a test chooses."""

from collections.abc import Callable, Iterable

from aiohttp import web
from support.scripted_server import Reply, Scripted

from policies.tuning.starter_set import Item

WRONG = "I would rather not tell."


class Student(Scripted):
    """Answers an item's prompt by its first right answer if `knows` is true of it, and is then the surer of it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._items: dict[str, Item] = {}
        self._knows: Callable[[Item], bool] = lambda item: True
        self.overrides: dict[str, Reply] = {}
        """Replies by an item's id."""

    def learn(self, items: Iterable[Item], knows: Callable[[Item], bool] = lambda item: True) -> None:
        self._items = {item.prompt: item for item in items}
        self._knows = knows

    async def answer(self, request: web.Request) -> web.StreamResponse:
        item = self._items[(await request.json())["messages"][-1]["content"]]
        self.script = [self.overrides.get(item.id) or self._reply(item)]
        return await super().answer(request)

    def _reply(self, item: Item) -> Reply:
        if not self._knows(item):
            return Reply(WRONG, logprobs=-1.0 - len(item.prompt) % 7 / 10)
        return Reply(f"{item.answers[0]} it is, as far as I know.", logprobs=-0.1 - len(item.prompt) % 7 / 20)
