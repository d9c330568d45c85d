# SPDX-License-Identifier: Apache-2.0
from collections import Counter
from collections.abc import Callable, Iterable

from hypothesis import given
from hypothesis import strategies as st

from tracer.readers.turns import Turns, Waiting


def process(number: int, container: str, size: int = 1, *, is_host: bool = False) -> Waiting:
    return Waiting((number, 10 * number), container, is_host, size)


def passes(
    turns: Turns,
    waiting: Callable[[int], Iterable[Waiting]],
    *,
    count: int,
    budget: int,
    cost: Callable[[Waiting], int] = lambda _one: 1,
) -> list[list[Waiting]]:
    """Who had a turn in each pass, as long as its budget was not used up."""
    taken: list[list[Waiting]] = []
    for number in range(count):
        left = budget
        taken.append([])
        for one in turns.order(waiting(number)):
            if left <= 0:
                break
            turns.took(one, cost(one))
            left -= cost(one)
            taken[-1].append(one)
    return taken


def flat(taken: list[list[Waiting]]) -> list[Waiting]:
    return [one for of_pass in taken for one in of_pass]


identities = st.tuples(st.integers(1, 9), st.just(0))
some_processes = st.lists(
    st.builds(Waiting, identities, st.sampled_from("abc"), st.booleans(), st.integers(0, 5)),
    unique_by=lambda one: one.process,
)


@given(some_processes, st.integers(1, 12), st.integers(1, 12))
def test_each_once_before_any_twice(waiting: list[Waiting], budget: int, count: int) -> None:
    taken = passes(Turns(), lambda _pass: waiting, count=count, budget=budget)
    seen: Counter[tuple[int, int]] = Counter()
    for of_pass in taken:
        assert len(of_pass) == len({one.process for one in of_pass}) == min(budget, len(waiting))
        for one in of_pass:
            seen[one.process] += 1
            if seen[one.process] == 2:
                assert len(seen) == len(waiting)
    assert not seen or max(seen.values()) - min(seen[one.process] for one in waiting) <= 1


@given(st.lists(some_processes, min_size=1), st.integers(1, 12))
def test_those_that_never_had_a_turn_are_before_those_that_had_two(there: list[list[Waiting]], budget: int) -> None:
    """Whoever comes and goes: a pass is of different processes, and as many as can be."""
    turns = Turns()
    taken = passes(turns, lambda number: there[number], count=len(there), budget=budget)
    for of_pass, waiting in zip(taken, there, strict=True):
        assert len({one.process for one in of_pass}) == len(of_pass) == min(budget, len(waiting))
        assert set(of_pass) <= set(waiting)


def test_containers_come_before_the_host_and_small_ones_first() -> None:
    waiting = [
        process(1, "init", 1, is_host=True), process(2, "a", 30), process(3, "a", 20), process(4, "b", 40),
        process(5, "sshd", 2, is_host=True),
    ]  # fmt: skip
    taken = flat(passes(Turns(), lambda _pass: waiting, count=5, budget=1))
    assert [one.process[0] for one in taken] == [3, 4, 2, 1, 5]


def test_ten_thousand_processes_of_the_host_are_in_no_containers_way() -> None:
    host = [process(number, f"unit{number % 50}", number, is_host=True) for number in range(1, 10_001)]
    container = [process(20_001, "web", 1 << 20), process(20_002, "web", 2 << 20)]
    taken = passes(Turns(), lambda _pass: [*host, *container], count=25, budget=400)
    assert taken[0][:2] == container
    # All once; then they begin anew.
    assert len({one.process for one in flat(taken)}) == 10_000
    assert not set(container) & set(flat(taken[1:]))
    again = passes(Turns(), lambda _pass: [*host, *container], count=26, budget=400)
    assert set(container) <= set(again[25])
    assert Counter(flat(again)).most_common(1)[0][1] == 2


def test_a_container_that_comes_meanwhile_need_not_wait_for_the_host() -> None:
    host = [process(number, "unit", is_host=True) for number in range(1, 1001)]
    late = [process(number, "late") for number in range(2001, 2011)]
    taken = passes(Turns(), lambda number: host if number < 3 else [*host, *late], count=4, budget=20)
    assert set(late) <= set(taken[3])
    # Of a storm of them only half.
    storm = [process(number, "late") for number in range(2001, 4001)]
    turns = Turns()
    taken = passes(turns, lambda number: host if number == 0 else [*host, *storm], count=10, budget=20)
    assert sum(one.is_host for one in flat(taken[-5:])) == 50


def test_each_container_has_its_share_of_the_time() -> None:
    """One has large processes, one has many, one is small: none takes more than the others while it has some left."""
    large = [process(number, "large", 1000) for number in range(1, 11)]
    many = [process(number, "many", 10) for number in range(101, 1101)]
    small = [process(2001, "small", 5), process(2002, "small", 50)]
    turns = Turns()
    taken = passes(turns, lambda _pass: [*large, *many, *small], count=4, budget=1500, cost=lambda one: one.size)
    time: Counter[str] = Counter()
    for one in flat(taken):
        time[one.container] += one.size
    assert set(small) <= set(taken[0])
    assert abs(time["large"] - time["many"]) <= 1000


@given(st.integers(1, 5), st.integers(0, 8), st.booleans())
def test_nobody_waits_for_ever_however_many_come(budget: int, arrivals: int, host: bool) -> None:
    """New small processes in each pass, more than the budget is for; the old ones have turns, and have them again."""
    old = [process(1, "a", 100), process(2, "b", 100), process(3, "unit", 100, is_host=True)]

    def waiting(number: int) -> list[Waiting]:
        first = 100 + number * arrivals
        new = [process(one, "a" if not host else "unit", 1, is_host=host) for one in range(first, first + arrivals)]
        return [*old, *new]

    seen = Counter(flat(passes(Turns(), waiting, count=60, budget=budget)))
    assert all(seen[one] >= 2 for one in old)
