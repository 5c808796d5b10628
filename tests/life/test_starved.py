"""Whether want of memory is behind an error: through groups, causes and contexts, and in a circle of them."""

from __future__ import annotations

from ocelot.errors import OcelotError, starved


def test_it_is_found_behind_causes_contexts_and_in_groups() -> None:
    cause, context = OcelotError("a"), OcelotError("b")
    cause.__cause__ = MemoryError()
    context.__context__ = ExceptionGroup("inner", [OSError(), MemoryError()])
    assert starved(MemoryError())
    assert starved(cause)
    assert starved(ExceptionGroup("outer", [ValueError(), context]))


def test_other_errors_are_none() -> None:
    assert not starved(None)
    assert not starved(ExceptionGroup("outer", [ValueError(), OSError()]))


def test_a_group_that_is_the_context_of_its_own_member_comes_to_an_end() -> None:
    """As an error becomes that passes a nursery and is raised again."""
    member = OcelotError("within")
    group = ExceptionGroup("nursery", [member])
    member.__context__ = group
    assert not starved(group)
    group.__context__ = MemoryError()
    assert starved(member)
