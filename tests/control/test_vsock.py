"""Addresses on vsock, and who may come from there."""

import errno

import pytest

from ocelot.config import structs
from ocelot.errors import ControlError
from ocelot.wire import vsock
from supervisor.control.vsock import HOST, refusal, refuse_others


@pytest.mark.parametrize(
    ("text", "found"), [("vsock:3:1", (3, 1)), ("vsock:17", (17, 9465)), ("vsock:1:9465", (1, 9465))]
)
def test_an_address_is_a_cid_and_a_port(text, found):
    assert vsock.parse(text) == found


@pytest.mark.parametrize(
    "text", ["vsock:", "vsock:a:1", "vsock:3:", "vsock:-1:5", "vsock:3:4:5", "vsock:4294967295", "vsock:3:99999999999"]
)
def test_what_is_no_address_says_so(text):
    with pytest.raises(ControlError, match="it is not vsock:CID:PORT") as caught:
        vsock.parse(text)
    assert caught.value.kind == "unreachable"


def test_both_sides_mean_the_same_port():
    assert structs.Vsock().port == vsock.PORT


@pytest.mark.parametrize("cid", [0, 1, 3, 4, 4294967295])
def test_only_the_host_is_let_in(cid):
    refuse_others((HOST, 1024), HOST)
    with pytest.raises(ControlError, match=f"CID {cid} came over vsock, and only CID 2 may"):
        refuse_others((cid, 1024), HOST)


def test_a_kernel_without_vsock_is_told_from_a_port_that_is_taken():
    missing = refusal(9465, OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol"))
    assert missing.message == (
        "cannot listen on vsock port 9465: the kernel has no vsock, as long as the module vmw_vsock_virtio_transport is not loaded"
    )
    taken = refusal(9465, OSError(errno.EADDRINUSE, "Address already in use"))
    assert (taken.message, taken.hint) == (
        "cannot listen on vsock port 9465: Address already in use",
        "choose another control.vsock.port",
    )
