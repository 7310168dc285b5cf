"""What logs and trainers' output show of secrets: that there was one."""

import pytest

from domain.secret import Secret, masked

KEY = "Ab3" + "x1Y2" * 9


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"r8_{KEY}", "r8_•••"),
        (f"key=rpa_{KEY.upper()}!", "key=rpa_•••!"),
        (f'{{"api_key":"sd_{KEY}"}}', '{"api_key":"sd_•••"}'),
        ("X-API-KEY: e2b_" + "0a1b" * 10, "X-API-KEY: e2b_•••"),
        ("r8_sim_u-0123abc.fails_at_start died", "r8_••• died"),
        ("e2b_sim_acme", "e2b_•••"),
        (f"Authorization: Bearer {KEY}", "Authorization: Bearer •••"),
        (f"curl -H 'authorization: bearer {KEY}'", "curl -H 'authorization: bearer •••'"),
        (f"Bearer r8_{KEY}", "Bearer •••"),
        (f"https://runwire.test/x?token={KEY}&a=1", "https://runwire.test/x?token=•••&a=1"),
        (f"rwk_test_{KEY}", "rwk_•••"),
        (f"rwk_{KEY} and rwp_{KEY}", "rwk_••• and rwp_•••"),
        ("RUNPOD_API_KEY=rpa_4qcs3i4u9ejdgt_8e93dcc4fedf", "RUNPOD_API_KEY=rpa_•••"),
        (f"%3Ftoken%3Drwg_{KEY}", "%3Ftoken%3D•••"),
        (f"url=http%3A%2F%2Fhost%2Fwebhooks%2Fastria%2F{KEY}", "url=http%3A%2F%2Fhost%2Fwebhooks%2Fastria%2F•••"),
        (f"Bearer%20{KEY}", "Bearer%20•••"),
        (f"key%3Drwg_{KEY}", "key%3Drwg_•••"),
        (f"%22r8_{KEY}%22", "%22r8_•••%22"),
        (rf"said\nrpa_{KEY}\n", r"said\nrpa_•••\n"),
        (rf"{{\"token\":\"eyJ{KEY}.{KEY}.{KEY}\"}}", r"{\"token\":\"eyJ•••\"}"),
        (f"éeyJ{KEY}.{KEY}.{KEY}", "éeyJ•••"),
    ],
)
def test_keys_of_ours_and_of_providers_are_not_shown(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert KEY not in masked(text)


@pytest.mark.parametrize(
    "text",
    [
        "loading sd_xl_base_1.0.safetensors",
        "import e2b_code_interpreter",
        "sd_turbo",
        "rpa_automation_framework",
        "hdr8_picture.png",
        "the bearer of bad news",
        "r8_",
    ],
)
def test_words_that_only_begin_like_keys_stay(text: str) -> None:
    assert masked(text) == text


def test_a_secret_shows_itself_on_demand_only() -> None:
    secret = Secret(KEY)
    assert KEY not in f"{secret} {secret!r} {[secret]}"
    assert secret.reveal() == KEY
