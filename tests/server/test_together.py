import asyncio

from server.together import Together


async def test_items_of_one_turn_are_taken_together() -> None:
    """Nothing is taken at once; when the others have had their turn, all their items are, in their order."""
    taken: list[list[int]] = []
    together = Together(taken.append)

    async def work(number: int) -> list[list[int]]:
        together.add(number)
        return taken.copy()

    seen = await asyncio.gather(*[work(number) for number in range(3)])

    assert seen == [[], [], []]
    assert taken == [[0, 1, 2]]


async def test_items_of_later_turns_are_taken_later() -> None:
    """What is added while others are taken waits for the next turn."""
    taken: list[list[str]] = []

    def take(items: list[str]) -> None:
        taken.append(items)
        if items == ["first"]:
            together.add("second")

    together = Together(take)
    together.add("first")

    await asyncio.sleep(0)
    assert taken == [["first"]]
    await asyncio.sleep(0)
    assert taken == [["first"], ["second"]]
