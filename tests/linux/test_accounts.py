"""Users and groups come from the files of a root, without the C library."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocelot.errors import OcelotError
from ocelot.linux.accounts import Accounts, User, parse_group, parse_passwd, read

PASSWD = """root:x:0:0:root:/root:/bin/bash
# a comment:x:1:1::/:
www:x:33:34::/var/www:
www:x:99:99:second:/:/bin/sh
broken
bad:x:one:1::/:
+::::::
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
GROUP = "root:x:0:\nwww:x:34:alice,bob\nadm:x:4:bob\n-broken\n"


def accounts() -> Accounts:
    return Accounts(parse_passwd(PASSWD), parse_group(GROUP), "/etc")


def test_the_first_entry_of_a_name_counts_and_gaps_are_filled() -> None:
    assert accounts().user("www") == User("www", 33, 34, "/var/www", "/bin/sh")


def test_lines_without_meaning_are_left_out() -> None:
    assert set(accounts().users) == {"root", "www", "nobody"}
    assert set(accounts().groups) == {"root", "www", "adm"}


@pytest.mark.parametrize("number", ["4294967295", "4294967296", "9" * 5000, "\u00b2", "-1"])
def test_an_entry_whose_number_is_none_that_a_process_could_have_means_nothing(number: str) -> None:
    """4294967295 is (uid_t) -1: setresuid(2) would leave root as it is."""
    assert parse_passwd(f"a:x:{number}:1::/:\nb:x:1:{number}::/:\n") == {}
    assert parse_group(f"a:x:{number}:\n") == {}


def test_a_name_with_what_unicode_takes_for_the_end_of_a_line_adds_no_account() -> None:
    assert set(parse_passwd("a:x:1:1:A\u2028b:x:0:0::/:\x85c:x:0:0::/:\n")) == {"a"}
    assert set(parse_group("a:x:1:b\x0cc:x:0:\n")) == {"a"}


def test_names_and_numbers_are_both_taken() -> None:
    known = accounts()
    assert (known.uid("www"), known.uid("1000"), known.gid("www"), known.gid("7")) == (33, 1000, 34, 7)
    assert known.user("33") == known.users["www"]


def test_supplementary_groups_are_those_that_list_the_name() -> None:
    assert accounts().supplementary("bob") == (34, 4)


@pytest.mark.parametrize("text", ["nginx", "-1", "4294967295", "١٢", ""])
def test_an_unknown_user_is_named_with_the_file(text: str) -> None:
    with pytest.raises(OcelotError, match="cannot find the user") as caught:
        accounts().uid(text)
    assert caught.value.hint == "add it to /etc/passwd or give its number"


def test_a_root_without_accounts_says_so(tmp_path: Path) -> None:
    with pytest.raises(OcelotError, match='cannot find the group "www"') as caught:
        read(str(tmp_path)).gid("www")
    assert caught.value.hint == f"{tmp_path}/etc/group has no entries: give the number"


def test_reads_the_files_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_bytes(PASSWD.encode() + b"caf\xe9:x:5:5::/:\n")
    (tmp_path / "etc/group").write_text(GROUP)
    assert read(str(tmp_path)).uid("nobody") == 65534
