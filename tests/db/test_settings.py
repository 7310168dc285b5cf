"""Settings of providers and of encryption: what is read, what is made, what production does not accept."""

import stat
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from db.settings import Settings
from domain.secret import Secret
from domain.training.status import Provider

REMOTE = [provider for provider in Provider if provider is not Provider.LOCAL]
SAFE: dict[str, Any] = {
    "environment": "production",
    "secret_keys": ("x" * 32,),
    "public_url": "https://api.example.com",
    "database_url": "postgresql://db.example.com/runwire",
    "redis_url": "redis://redis.example.com",
}


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*Settings.model_fields, "runpod_api_base_url", "e2b_api_url"):
        monkeypatch.delenv(name.upper(), raising=False)


class TestOperatorsKeys:
    def test_are_the_operators_or_none(self) -> None:
        settings = Settings(replicate_api_token=SecretStr("r8_sim_house"), e2b_api_key=SecretStr(" "))
        assert settings.api_key_of(Provider.REPLICATE) == Secret("r8_sim_house")
        assert [settings.api_key_of(provider) for provider in (*REMOTE[1:], Provider.LOCAL)] == [None] * 4

    def test_come_from_the_environment_and_are_not_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("REPLICATE_API_TOKEN", "RUNPOD_API_KEY", "ASTRIA_API_KEY", "E2B_API_KEY"):
            monkeypatch.setenv(name, "some-secret")
        settings = Settings()
        assert [settings.api_key_of(provider) for provider in REMOTE] == [Secret("some-secret")] * 4
        assert "some-secret" not in repr(settings) + str(settings)


class TestAddresses:
    def test_are_the_vendors_own_by_default(self) -> None:
        settings = Settings()
        assert {provider: settings.base_url_of(provider) for provider in Provider} == {
            Provider.LOCAL: "",
            Provider.REPLICATE: "https://api.replicate.com",
            Provider.RUNPOD: "https://api.runpod.io",
            Provider.ASTRIA: "https://api.astria.ai",
            Provider.E2B: "https://api.e2b.app",
        }

    @pytest.mark.parametrize("name", ["RUNPOD_BASE_URL", "RUNPOD_API_BASE_URL"])
    def test_of_runpod_has_two_names(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.setenv(name, "http://127.0.0.1:9000/runpod/")
        assert Settings().base_url_of(Provider.RUNPOD) == "http://127.0.0.1:9000/runpod"

    def test_of_e2b_has_two_names_and_ours_goes_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("E2B_API_URL", "http://127.0.0.1:1/theirs")
        assert Settings().e2b_base_url == "http://127.0.0.1:1/theirs"
        monkeypatch.setenv("E2B_BASE_URL", "http://127.0.0.1:1/ours")
        assert Settings().e2b_base_url == "http://127.0.0.1:1/ours"
        assert Settings(e2b_base_url="http://127.0.0.1:1/given").e2b_base_url == "http://127.0.0.1:1/given"

    @pytest.mark.parametrize("url", ["api.replicate.com", "ftp://x", "https://", "https://x?key=1", "https://x#a"])
    def test_must_be_addresses(self, url: str) -> None:
        with pytest.raises(ValidationError):
            Settings(replicate_base_url=url)

    def test_of_test_mode_are_below_the_simulators(self) -> None:
        settings = Settings(simulators_url="http://127.0.0.1:9000/")
        assert settings.base_url_of(Provider.E2B, test_mode=True) == "http://127.0.0.1:9000/e2b"
        assert settings.base_url_of(Provider.REPLICATE, test_mode=True) == "http://127.0.0.1:9000/replicate"
        assert settings.base_url_of(Provider.LOCAL, test_mode=True) == ""
        assert Settings().base_url_of(Provider.E2B, test_mode=True) == ""


class TestReaching:
    @pytest.mark.parametrize("public_url", ["", "http://127.0.0.1:8000", "http://localhost", "http://[::1]:8000"])
    def test_nobody_elsewhere_reaches_an_address_of_this_machine(self, public_url: str) -> None:
        settings = Settings(public_url=public_url, simulators_url="https://simulators.example.com")
        assert [settings.reaches(provider) for provider in REMOTE] == [False] * 4
        assert settings.reaches(Provider.LOCAL)
        assert not settings.reaches(Provider.E2B, test_mode=True)

    def test_a_simulator_on_this_machine_does(self) -> None:
        settings = Settings(runpod_base_url="http://localhost:9000/runpod", simulators_url="http://127.0.0.1:9000")
        assert settings.reaches(Provider.RUNPOD)
        assert not settings.reaches(Provider.REPLICATE)
        assert all(settings.reaches(provider, test_mode=True) for provider in REMOTE)

    def test_everybody_reaches_a_public_address(self) -> None:
        assert all(Settings(public_url="https://api.example.com").reaches(provider) for provider in Provider)


class TestEncryptionKeys:
    def test_one_is_made_once_and_kept(self, tmp_path: Path) -> None:
        first = Settings(data_dir=tmp_path / "data").encryption_keys_or_kept()
        assert first == Settings(data_dir=tmp_path / "data").encryption_keys_or_kept()
        assert (len(first), len(first[0])) == (1, 64)
        path = tmp_path / "data" / "encryption_key"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert first != Settings(data_dir=tmp_path / "data").signing_keys()

    def test_given_ones_are_taken_in_their_order(self, tmp_path: Path) -> None:
        settings = Settings(data_dir=tmp_path / "data", encryption_keys=("new", "old"))  # type: ignore[arg-type]  # texts, as in the environment
        assert settings.encryption_keys_or_kept() == ("new", "old")
        assert not (tmp_path / "data").exists()

    def test_production_makes_none(self, tmp_path: Path) -> None:
        assert Settings(**SAFE, data_dir=tmp_path / "data").encryption_keys_or_kept() == ()
        assert not (tmp_path / "data").exists()


class TestProblems:
    def test_production_is_fine_without_providers(self) -> None:
        assert Settings(**SAFE).problems() == []

    def test_a_short_key_is_told(self) -> None:
        assert Settings(**SAFE, encryption_keys="short," + "x" * 32).problems() == [  # type: ignore[arg-type]  # as in the environment
            "ENCRYPTION_KEYS holds a key shorter than 32 characters: make one with `openssl rand -base64 32`"
        ]

    def test_keys_in_plain_text_are_told(self) -> None:
        settings = Settings(**SAFE, astria_base_url="http://astria.example.com", e2b_base_url="http://127.0.0.1:9/e2b")
        assert settings.problems() == ["ASTRIA_BASE_URL is not https: keys would travel in plain text"]
