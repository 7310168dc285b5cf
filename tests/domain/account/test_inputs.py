"""What people may type about themselves, and the one form it is kept in."""

import pytest

from domain.account.errors import BadEmail, BadName, BadPassword
from domain.account.inputs import (
    LONGEST_DEVICE,
    Device,
    NewAccount,
    checked_email,
    checked_name,
    checked_password,
    normal_password,
)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("ada@example.com", "ada@example.com"),
        ("  Ada@Example.COM\n", "ada@example.com"),
        ("ada+runs@mail.example.co.uk", "ada+runs@mail.example.co.uk"),
        ("josé@exámple.com", "josé@exámple.com"),
        ("ada@localhost", "ada@localhost"),
        ("a" * 64 + "@" + "b" * 185 + ".com", "a" * 64 + "@" + "b" * 185 + ".com"),
    ],
)
def test_addresses_have_one_form(typed: str, kept: str) -> None:
    assert checked_email(typed) == kept


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "ada",
        "@example.com",
        "ada@",
        "ada@@example.com",
        "ada@exam ple.com",
        "ada b@example.com",
        "ada@example..com",
        "ada@.example.com",
        "ada@example.com.",
        "ada@-example.com",
        "ada@example.com\x00",
        "ada@example.com\nbcc: eve@example.com",
        "a" * 65 + "@example.com",
        "a" * 64 + "@" + "b" * 186 + ".com",
    ],
)
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(BadEmail) as refusal:
        checked_email(typed)
    assert refusal.value.field == ("email",)
    assert "254" in refusal.value.message()


@pytest.mark.parametrize("length", [10, 200])
def test_passwords_of_a_fitting_length_are_taken(length: int) -> None:
    assert checked_password("x" * length) == "x" * length


@pytest.mark.parametrize("length", [0, 9, 201])
def test_passwords_of_another_length_are_refused_with_the_limits(length: int) -> None:
    with pytest.raises(BadPassword) as refusal:
        checked_password("x" * length)
    assert refusal.value.message() == "A password has 10 to 200 characters; a sentence of a few words is a good one."
    assert refusal.value.params["shortest"] == 10
    assert refusal.value.params["longest"] == 200


def test_a_password_is_the_same_from_every_keyboard() -> None:
    assert normal_password("cafe\u0301 com leite") == normal_password("caf\u00e9 com leite")


@pytest.mark.parametrize("name", ["a\nb", "a\x00b", "x" * 201])
def test_names_that_cannot_be_shown_are_refused(name: str) -> None:
    with pytest.raises(BadName):
        checked_name(name)


def test_a_name_may_be_missing_unless_it_is_needed() -> None:
    assert checked_name("  ") == ""
    with pytest.raises(BadName):
        checked_name("  ", shortest=1)


def test_an_account_does_not_show_its_password() -> None:
    wanted = NewAccount.checked(email="ada@example.com", password="correct horse battery")
    assert "correct" not in repr(wanted)


def test_what_a_device_says_of_itself_is_cut_and_cleaned() -> None:
    device = Device.of("Fire\x00fox\n" + "x" * 1000, "192.0.2.1")
    assert device == Device("Firefox" + "x" * (LONGEST_DEVICE - 7), "192.0.2.1")
