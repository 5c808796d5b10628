"""Order, circles and chains, over random graphs."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ocelot.config.graph import chains, cycles, heaviest_chain, order, reversed_edges

NAMES = [f"p{number}" for number in range(8)]


@st.composite
def acyclic(draw):
    """Each name may depend on those before it in a shuffled order."""
    names = draw(st.permutations(NAMES))
    edges = {
        name: draw(st.lists(st.sampled_from(names[:place]), unique=True)) if place else []
        for place, name in enumerate(names)
    }
    return {name: edges[name] for name in draw(st.permutations(NAMES))}


ANY = st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), unique=True, max_size=4), min_size=1)


@given(acyclic())
def test_an_order_puts_everything_after_what_it_depends_on(edges):
    placed = order(edges)
    assert sorted(placed) == sorted(edges)
    assert all(placed.index(target) < placed.index(name) for name, targets in edges.items() for target in targets)
    assert cycles(edges) == []


@given(acyclic())
def test_without_edges_between_them_the_order_of_the_file_stays(edges):
    assert order(dict.fromkeys(edges, ())) == list(edges)


@given(ANY)
def test_circles_are_told_as_paths_and_without_them_there_is_an_order(edges):
    found = cycles(edges)
    for circle in found:
        assert circle[0] == circle[-1]
        assert all(following in edges.get(name, ()) for name, following in itertools.pairwise(circle))
    cut = {(circle[-2], circle[-1]) for circle in found}
    rest = {name: [each for each in targets if (name, each) not in cut] for name, targets in edges.items()}
    assert cycles(rest) == []
    assert set(order(edges)) >= set(edges)


def test_a_circle_of_one_and_a_long_one():
    assert cycles({"a": ["a"]}) == [["a", "a"]]
    long = {f"n{number}": [f"n{(number + 1) % 5000}"] for number in range(5000)}
    assert [len(circle) for circle in cycles(long)] == [5001]
    assert len(order(long)) == 5000


@given(acyclic(), st.dictionaries(st.sampled_from(NAMES), st.integers(0, 9), min_size=8))
def test_chains_are_the_heaviest_paths_through_each(edges, weight):
    def paths(name):
        return [[name, *path] for target in edges[name] for path in paths(target)] or [[name]]

    everything = [path for name in edges for path in paths(name)]
    found = chains(edges, weight)
    for name in edges:
        assert found[name] == max(sum(weight[each] for each in path) for path in everything if name in path)
    heaviest = heaviest_chain(edges, weight)
    assert sum(weight[name] for name in heaviest) == max(found.values())


@given(acyclic())
def test_reversed_twice_is_the_same(edges):
    again = reversed_edges(reversed_edges(edges))
    assert {name: sorted(targets) for name, targets in again.items()} == {n: sorted(t) for n, t in edges.items()}
