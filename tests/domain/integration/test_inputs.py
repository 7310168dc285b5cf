"""What people give to connect an account."""

import pytest

from domain.errors import Invalid
from domain.integration.errors import BadIntegrationName, BadProviderKey, NothingToConnect
from domain.integration.inputs import LONGEST_KEY, LONGEST_NAME, NewIntegration
from domain.secret import Secret
from domain.training.status import Provider

KEY = "r8_sim_acme"


def test_blanks_that_copying_brings_are_taken_off() -> None:
    wanted = NewIntegration.checked(provider=Provider.REPLICATE, name=" Work ", key=f"\n{KEY}\t")
    assert wanted == NewIntegration(Provider.REPLICATE, "Work", Secret(KEY))
    assert KEY not in repr(wanted)


@pytest.mark.parametrize(
    "key", ["", " ", "two words", "a\tb", "a\nb", "a\0b", "schlüssel", "a\x7f", "x" * (LONGEST_KEY + 1)]
)
def test_what_is_no_key_is_refused_without_being_repeated(key: str) -> None:
    with pytest.raises(BadProviderKey) as refused:
        NewIntegration.checked(provider=Provider.RUNPOD, name="Work", key=key)
    assert refused.value.params == {"longest": 500}
    assert refused.value.field == ("apiKey",)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\0", "x" * (LONGEST_NAME + 1)])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(BadIntegrationName):
        NewIntegration.checked(provider=Provider.RUNPOD, name=name, key=KEY)


def test_longest_and_strangest_that_may_be() -> None:
    key = "".join(chr(code) for code in range(33, 127)) * 5
    wanted = NewIntegration.checked(provider=Provider.E2B, name="ç" * LONGEST_NAME, key=key)
    assert (wanted.key.reveal(), len(wanted.name)) == (key, 100)


def test_local_needs_no_account() -> None:
    with pytest.raises(NothingToConnect) as refused:
        NewIntegration.checked(provider=Provider.LOCAL, name="Work", key=KEY)
    assert isinstance(refused.value, Invalid)
