from __future__ import annotations

import pytest

from aitbc_server.auth.unread import Unread
from aitbc_server.domain.call import Call, current_call
from aitbc_server.domain.caller import Caller, Role
from aitbc_server.domain.errors import TooMuchUnread

A = Caller(account="a", role=Role.CLIENT)
B = Caller(account="b", role=Role.CLIENT)
VISITOR = Caller(account="192.0.2.1")
ADMIN = Caller(account="admin", role=Role.ADMIN)


def test_a_caller_that_does_not_read_is_given_no_more() -> None:
    unread = Unread(100)
    first, second = unread.hold(A, 60), unread.hold(A, 40)
    with pytest.raises(TooMuchUnread):
        unread.check(A)
    with pytest.raises(TooMuchUnread):
        unread.hold(A, 1)
    # Others have their own share.
    unread.check(B)
    unread.hold(B, 100)
    first(None)
    unread.check(A)
    unread.hold(A, 60)
    second(None)


def test_one_answer_alone_may_be_larger() -> None:
    unread = Unread(100)
    release = unread.hold(A, 1000)
    with pytest.raises(TooMuchUnread):
        unread.check(A)
    release(None)
    unread.check(A)
    unread.hold(A, 1000)


def test_all_callers_together_have_a_bound_too_and_visitors_one_of_their_own() -> None:
    unread = Unread(100, visitors=100, total=150)
    first = unread.hold(A, 100)
    with pytest.raises(TooMuchUnread):
        unread.hold(B, 60)
    unread.hold(VISITOR, 100)
    with pytest.raises(TooMuchUnread):
        unread.hold(Caller(account="192.0.2.2"), 1)
    # Who administers it gets an answer whatever others leave unread.
    unread.hold(ADMIN, 100)
    first(None)
    unread.hold(B, 60)


def test_what_is_held_for_a_while_is_given_back_also_when_it_breaks() -> None:
    unread = Unread(100)
    with pytest.raises(ZeroDivisionError), unread.held(A, 100):
        raise ZeroDivisionError
    unread.hold(A, 100)


def test_what_a_call_holds_does_not_stand_in_its_own_way() -> None:
    unread = Unread(100)
    token = current_call.set(Call("one"))
    with unread.held(A, 90), unread.held(A, 90):
        current_call.reset(token)
        # Another call may have chosen the same name.
        token = current_call.set(Call("one"))
        with pytest.raises(TooMuchUnread):
            unread.hold(A, 1)
    current_call.reset(token)


def test_a_call_that_has_begun_is_not_ended_for_what_others_began_since() -> None:
    unread = Unread(100)
    token = current_call.set(Call("one"))
    unread.hold(A, 50)
    other = current_call.set(Call("other"))
    unread.hold(A, 50)
    current_call.reset(other)
    unread.hold(A, 50)
    with pytest.raises(TooMuchUnread):
        unread.hold(A, 101)
    current_call.reset(token)
