# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from flannelpy.claims import Claim, Claims
from flannelpy.state import File, Key, Kind

KEYS = [Key(Kind.ROUTE, "", 4, n, 24) for n in range(2)]
steps = st.lists(
    st.tuples(st.sampled_from(KEYS), st.sampled_from([b"a", b"b", b"c"]), st.integers(1, 3)),
    max_size=30,
)


def thing(lease, revision):
    return File(lease.decode(), str(revision))


@given(steps)
def test_the_claim_written_last_counts_whatever_came_before(todo):
    """Each step puts a lease's claim, or takes it away where it stands."""
    claims, model = Claims(), {}
    for key, lease, revision in todo:
        if (key, lease) in model:
            claims.drop(key, lease)
            del model[key, lease]
        else:
            claims.add(key, Claim(revision, lease, thing(lease, revision)))
            model[key, lease] = revision
        for asked in KEYS:
            rivals = [(number, of) for (at, of), number in model.items() if at == asked]
            wanted = thing(max(rivals)[1], max(rivals)[0]) if rivals else None
            assert claims.get(asked) == wanted
        assert set(claims) == {at for at, _ in model}
        assert len(claims) == len({at for at, _ in model})
