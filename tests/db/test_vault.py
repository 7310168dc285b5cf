"""Sealed secrets: open for their own row and with a known key, and for nothing else."""

import pytest

from db.vault import KEY_ID_BYTES, NONCE_BYTES, TAG_BYTES, Vault, VaultClosed
from domain.base import new_id
from domain.integration.errors import EncryptionNotSetUp
from domain.secret import Secret

OLD, NEW = "the old key of thirty-two letters", "the new key of thirty-two letters"
TEXT = Secret("r8_sim_acme")
ROW = new_id().bytes + new_id().bytes


def test_what_was_sealed_opens_again_and_shows_nothing() -> None:
    vault = Vault([NEW])
    sealed = vault.seal(TEXT, bound_to=ROW)
    assert vault.open(sealed, bound_to=ROW) == TEXT
    assert TEXT.reveal().encode() not in sealed
    assert len(sealed) == 1 + KEY_ID_BYTES + NONCE_BYTES + len(TEXT.reveal()) + TAG_BYTES
    assert NEW not in repr(vault)


def test_the_same_text_is_never_sealed_alike() -> None:
    vault = Vault([NEW])
    assert len({vault.seal(TEXT, bound_to=ROW) for _ in range(100)}) == 100


def test_any_text_comes_back() -> None:
    vault = Vault([NEW])
    for text in ("", "é" * 500, "\0"):
        assert vault.open(vault.seal(Secret(text), bound_to=ROW), bound_to=ROW).reveal() == text


def test_the_first_key_writes_and_all_read() -> None:
    before, between, after = Vault([OLD]), Vault([NEW, OLD]), Vault([NEW])
    old, new = before.seal(TEXT, bound_to=ROW), between.seal(TEXT, bound_to=ROW)
    assert between.open(old, bound_to=ROW) == between.open(new, bound_to=ROW) == after.open(new, bound_to=ROW) == TEXT
    assert (between.is_current(old), between.is_current(new)) == (False, True)
    for vault, sealed in ((after, old), (before, new)):
        with pytest.raises(VaultClosed):
            vault.open(sealed, bound_to=ROW)


def test_the_same_key_twice_is_one_key() -> None:
    vault = Vault([NEW, NEW])
    assert vault.open(Vault([NEW]).seal(TEXT, bound_to=ROW), bound_to=ROW) == TEXT


def test_moved_to_another_row_or_user_it_does_not_open() -> None:
    vault = Vault([NEW])
    sealed = vault.seal(TEXT, bound_to=ROW)
    for other in (new_id().bytes + ROW[16:], ROW[:16] + new_id().bytes, b"", ROW + b"\0"):
        with pytest.raises(VaultClosed):
            vault.open(sealed, bound_to=other)


def test_changed_in_any_byte_it_does_not_open() -> None:
    vault = Vault([NEW, OLD])
    sealed = vault.seal(TEXT, bound_to=ROW)
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(VaultClosed):
            vault.open(bytes(changed), bound_to=ROW)


@pytest.mark.parametrize("length", [0, 1, 9, 21, 30, 36, -1])
def test_cut_off_it_does_not_open(length: int) -> None:
    vault = Vault([NEW])
    with pytest.raises(VaultClosed):
        vault.open(vault.seal(TEXT, bound_to=ROW)[:length], bound_to=ROW)


def test_without_a_key_nothing_is_sealed_or_opened() -> None:
    with pytest.raises(EncryptionNotSetUp):
        Vault([]).seal(TEXT, bound_to=ROW)
    with pytest.raises(VaultClosed) as closed:
        Vault([]).open(Vault([NEW]).seal(TEXT, bound_to=ROW), bound_to=ROW)
    assert TEXT.reveal() not in str(closed.value)
