# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from skydns import desired, names, plan
from skydns.records import Service

KEYS = st.sampled_from([b"/skydns/a", b"/skydns/b", b"/skydns/c"])
SERVICES = st.dictionaries(KEYS, st.integers(1, 3)).map(
    lambda found: {
        key: Service(key, names.from_text(key[-1:].decode()), address=bytes([10, 0, 0, octet]))
        for key, octet in found.items()
    }
)


@given(SERVICES, SERVICES)
def test_a_plan_makes_the_states_equal(wanted, actual):
    state = dict(actual)
    actions = plan.index(wanted, actual)
    for action in actions:
        if isinstance(action, plan.Publish):
            state[action.service.key] = action.service
        else:
            del state[action.service.key]
    assert state == wanted
    assert plan.index(wanted, state) == ()
    kinds = [plan.removes(action) for action in actions]
    assert kinds == sorted(kinds)  # put before delete


@given(SERVICES, st.none() | st.frozensets(KEYS))
def test_a_scope_is_looked_at_and_no_more(placed, scope):
    found = desired.services(placed, scope)
    assert set(found) == (set(placed) if scope is None else set(placed) & scope)


def test_actions_read_as_people_write():
    service = Service(
        b"/skydns/test/web", names.from_text("web.test"), address=bytes([10, 0, 0, 1])
    )
    assert str(plan.Publish(service)) == "publish web.test. 10.0.0.1"
    assert str(plan.Withdraw(service)) == "withdraw web.test. 10.0.0.1"
