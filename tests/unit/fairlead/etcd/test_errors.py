# SPDX-License-Identifier: Apache-2.0
"""What etcd says → which type: texts before codes (specs/etcd.md §5.3)."""

import pytest

from fairlead.errors import StoreError
from fairlead.etcd import errors
from fairlead.etcd.errors import from_status

GRPC_PROXY = 2  # `etcd grpc-proxy` passes every error on as UNKNOWN, with the text


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (11, "etcdserver: mvcc: required revision has been compacted", errors.Compacted),
        (11, "etcdserver: mvcc: required revision is a future revision", errors.FutureRevision),
        (5, "etcdserver: requested lease not found", errors.LeaseLost),
        (9, "etcdserver: lease already exists", errors.LeaseExists),
        (11, "etcdserver: too large lease TTL", errors.Invalid),
        (3, "etcdserver: key is not provided", errors.Invalid),
        (3, "etcdserver: duplicate key given in txn request", errors.Invalid),
        (3, "etcdserver: too many operations in txn request", errors.Invalid),
        (3, "etcdserver: request is too large", errors.TooLarge),
        (8, "grpc: received message larger than max (3000010 vs. 2097152)", errors.TooLarge),
        (8, "etcdserver: mvcc: database space exceeded", errors.NoSpace),
        (8, "etcdserver: too many requests", errors.Busy),
        (16, "etcdserver: invalid auth token", errors.TokenExpired),
        (3, "etcdserver: user name is empty", errors.TokenExpired),
        (3, "etcdserver: revision of auth store is old", errors.TokenExpired),
        (7, "etcdserver: permission denied", errors.Denied),
        (3, "etcdserver: authentication failed, invalid user ID or password", errors.BadLogin),
        (14, "etcdserver: no leader", errors.Unavailable),
        (14, "etcdserver: leader changed", errors.Unavailable),
        (14, "etcdserver: request timed out, possibly due to connection lost", errors.Unavailable),
        (14, "etcdserver: server stopped", errors.Unavailable),
        (14, "etcdserver: unhealthy cluster", errors.Unavailable),
        (15, "etcdserver: corrupt cluster", errors.Corrupt),
        (9, "etcdserver: rpc not supported for learner", errors.Unavailable),
        (4, "context deadline exceeded", errors.Unavailable),
    ],
)
def test_texts_decide_before_codes(code: int, text: str, kind: type[StoreError]) -> None:
    for status in (code, GRPC_PROXY):
        error = from_status(status, text)
        assert type(error) is kind
        assert text in str(error)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (12, errors.Unimplemented),
        (4, errors.Timeout),
        (7, errors.Denied),
        (14, errors.Unavailable),
        (2, errors.Unavailable),
    ],
)
def test_codes_decide_where_no_text_is_known(code: int, kind: type[StoreError]) -> None:
    assert type(from_status(code, "something new")) is kind


def test_retry_is_a_matter_of_the_type() -> None:
    assert errors.Timeout.transient
    assert errors.Unclear.transient
    assert not errors.Invalid.transient
    assert not errors.Denied.transient
    assert issubclass(errors.NotSent, errors.Unavailable)


def test_an_error_without_a_message_names_its_code() -> None:
    assert "gRPC status 13" in str(from_status(13, ""))
