"""AstriaTrainer: how a tune is asked for, with which images, and how it is found again."""

import io
import json
import zipfile
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from domain.secret import Secret
from jobs.providers.astria.order import fields_of
from jobs.providers.astria.upload import form_of, pairs_of
from jobs.providers.base import (
    CredentialRefused,
    ProviderBusy,
    ProviderRefused,
    ReceivesCallbacks,
    RemoteTrainer,
    Started,
)
from jobs.simulators.astria import AstriaSimulator
from jobs.simulators.kit import serving
from tests.jobs.providers.astria import bodies
from tests.jobs.providers.astria.support import (
    CALLBACK,
    JPEG,
    PNG,
    TAG,
    URLS,
    WEBP,
    Bench,
    dataset,
    images,
    order,
    told,
    zipped,
)

pytestmark = pytest.mark.anyio


def test_it_is_a_remote_trainer_that_receives_callbacks() -> None:
    trainer = told([])
    assert isinstance(trainer, RemoteTrainer)
    assert isinstance(trainer, ReceivesCallbacks)
    assert trainer.pace.seconds_at(0) == 15
    assert not trainer.bills_from_creation
    assert trainer.pace.seconds_at(3_600) == 60


class TestAddresses:
    async def test_the_body_is_the_documented_one(self) -> None:
        heard: list[httpx2.Request] = []

        def answer(request: httpx2.Request) -> httpx2.Response:
            heard.append(request)
            return httpx2.Response(201, json=bodies.TUNE)

        sent = bodies.CREATE["tune"]
        started = await told(answer).start(
            order("run-7f3c", imageUrls=sent["image_urls"] * 2, preset=sent["preset"], callback=sent["callback"])
        )
        assert json.loads(heard[0].content) == {"tune": sent | {"image_urls": sent["image_urls"] * 2}}
        assert str(heard[0].url) == "https://api.astria.ai/tunes"
        assert heard[0].headers["authorization"] == "Bearer sd_key"
        assert started == Started("3401603", url="https://www.astria.ai/tunes/3401603")

    async def test_all_hyperparameters_arrive(self, bench: Bench) -> None:
        extra = {"training_face_correct": True, "characteristics": {"eye_color": "blue eyes"}}
        wish = order(token="sks", faceCrop=True, steps=300, branch="sd15", extra=extra)
        started = await bench.trainer().start(wish)
        fields = bench.simulator.tunes[int(started.reference)].fields
        assert {name: value for name, value in fields.items() if value not in (None, [])} == {
            "title": TAG,
            "name": "woman",
            "base_tune_id": 1504944,
            "model_type": "lora",
            "branch": "sd15",
            "token": "sks",
            "face_crop": True,
            "steps": 300,
            "training_face_correct": True,
            "characteristics": {"eye_color": "blue eyes"},
            "image_urls": URLS,
            "image_count": 4,
            "callback": CALLBACK,
        }

    async def test_without_a_callback_none_is_named(self) -> None:
        assert "callback" not in fields_of(order(callback=None))

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [
            ({"imageUrls": URLS[:3]}, "imageUrls names 3 images; Astria needs at least 4"),
            ({"imageUrls": []}, "imageUrls names 0 images"),
            ({"imageUrls": [*URLS, "http://files.example/5.jpg"]}, "Address 5 of imageUrls"),
            ({"imageUrls": [*URLS, "https://user:password@files.example/5.jpg"]}, "Address 5 of imageUrls"),
            ({"imageUrls": URLS * 51}, "holds 204 addresses"),
            ({"imageUrls": "https://files.example/1.jpg"}, "list of addresses"),
            ({"className": None}, "className"),
            ({"extra": {"title": "mine"}}, "may not set the tune's title"),
            ({"extra": {"callback": "https://evil.example"}}, "may not set the tune's callback"),
            ({"extra": {"steps": 1}}, "may not set the tune's steps"),
            ({"extra": {"Bad Name": 1}}, "names a field"),
            ({"extra": [1]}, "must be an object"),
        ],
    )
    async def test_what_cannot_work_is_refused_before_anybody_is_asked(
        self, bench: Bench, wrong: dict[str, Any], sentence: str
    ) -> None:
        with pytest.raises(ProviderRefused, match=sentence):
            await bench.trainer().start(order(**wrong))
        assert bench.simulator.journal.entries == []

    async def test_another_recipe_is_refused(self, bench: Bench) -> None:
        with pytest.raises(ProviderRefused, match="image-tune only"):
            await bench.trainer().start(replace(order(), recipe="command"))


class TestUploads:
    async def test_the_images_of_a_zip_are_sent_and_nothing_else(self, wire: Bench) -> None:
        content = zipped(
            {
                "a/1.jpg": JPEG,
                "../../2.PNG": PNG,
                "3.webp": WEBP,
                "4.jpeg": JPEG + b"\r\n--boundary\r\n" * 5,
                "__MACOSX/._4.jpeg": b"\0\5\x16\7 not an image",
                "notes.txt": b"four friends",
                "program.jpg": b"MZ\x90",
                "empty.jpg": b"",
            }
        )
        started = await wire.trainer().start(order(dataset=dataset(content), faceCrop=False))
        tune = wire.simulator.tunes[int(started.reference)]
        assert (tune.title, tune.fields["image_count"], tune.fields["face_crop"]) == (TAG, 4, False)
        assert tune.fields["image_urls"] == []
        [heard] = wire.simulator.journal.of("POST", "/tunes")
        assert heard.headers["content-type"].startswith("multipart/form-data; boundary=runwire-")
        assert heard.headers["content-length"] == str(len(heard.body))
        for name in (b"1.jpeg", b"2.png", b"3.webp", b"4.jpeg"):
            assert b'name="tune[images][]"; filename="' + name + b'"' in heard.body
        assert b".." not in heard.body.replace(b"...", b"")
        assert b"four friends" not in heard.body
        assert b"MACOSX" not in heard.body

    async def test_prompts_and_lists_travel_in_a_form(self, wire: Bench) -> None:
        extra = {
            "prompts_attributes": [{"text": "sks in space", "super_resolution": True}, {"text": 'a "cat"\r\nx: y'}],
            "characteristics": {"eye_color": "blue"},
        }
        started = await wire.trainer().start(order(dataset=dataset(zipped(images())), extra=extra))
        fields = wire.simulator.tunes[int(started.reference)].fields
        assert [(one["text"], one["super_resolution"]) for one in fields["prompts_attributes"]] == [
            ("sks in space", True),
            ('a "cat"\r\nx: y', None),
        ]
        assert fields["characteristics"] == {"eye_color": "blue"}

    async def test_a_name_that_would_break_a_form_is_refused(self, bench: Bench) -> None:
        extra = {"characteristics": {'x"\r\nevil: yes': "1"}}
        with pytest.raises(ProviderRefused, match="no form can hold"):
            await bench.trainer().start(order(dataset=dataset(zipped(images())), extra=extra))

    def test_names_follow_the_documentation(self) -> None:
        fields = {"title": "x", "ids": [1, 2], "none": None, "prompts_attributes": [{"text": "a"}, {"text": "b"}]}
        assert list(pairs_of(fields)) == [
            ("tune[title]", "x"),
            ("tune[ids][]", "1"),
            ("tune[ids][]", "2"),
            ("tune[none]", ""),
            ("tune[prompts_attributes][0][text]", "a"),
            ("tune[prompts_attributes][1][text]", "b"),
        ]

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            (zipped(images(3)), "The dataset holds 3 images; Astria needs at least 4"),
            (zipped({}), "The dataset holds 0 images"),
            (zipped(images(201)), "more than 200 images"),
            (zipped(images(), zipfile.ZIP_BZIP2), "use deflate"),
            (zipped(images(), zipfile.ZIP_LZMA), "use deflate"),
            (
                zipped(images() | {"big.jpg": JPEG + b"\0" * 20 * 1024 * 1024}),
                "Image 5 of the dataset is larger than 20",
            ),
            (zipped(images())[:-30], "no ZIP"),
            (zipped(images(), zipfile.ZIP_STORED).replace(JPEG, JPEG[:-1] + b"\1", 1), "no ZIP"),
            (b"", "no ZIP"),
            (b"PK\5\6" + b"\xff" * 18, "no ZIP"),
            (b"not a zip at all" * 100, "no ZIP"),
        ],
    )
    async def test_data_that_cannot_be_sent_is_refused(self, bench: Bench, content: bytes, sentence: str) -> None:
        with pytest.raises(ProviderRefused, match=sentence):
            await bench.trainer().start(order(dataset=dataset(content)))
        assert bench.simulator.journal.entries == []

    async def test_too_much_in_all_is_refused(self) -> None:
        content = zipped({f"{number}.jpg": JPEG + b"\0" * 19 * 1024 * 1024 for number in range(11)})
        assert len(content) < 1024 * 1024  # a bomb, in a small way
        with pytest.raises(ProviderRefused, match="larger than 200 MiB together"):
            form_of(dataset(content), {"title": "x"})

    async def test_an_encrypted_zip_is_refused(self) -> None:
        content = bytearray(zipped(images(), zipfile.ZIP_STORED))
        place = content.index(b"PK\1\2")
        content[place + 8] |= 1  # the flag of the first entry in the directory
        with pytest.raises(ProviderRefused, match="encrypted"):
            form_of(dataset(bytes(content)), {"title": "x"})

    async def test_other_data_is_refused(self, bench: Bench) -> None:
        for wrong in (dataset(b"a,b\n1,2\n", "CSV"), replace(dataset(zipped(images())), open=None)):
            with pytest.raises(ProviderRefused, match="must be a ZIP"):
                await bench.trainer().start(order(dataset=wrong))

    async def test_a_disk_that_does_not_serve_is_for_later(self, bench: Bench) -> None:
        def broken() -> io.BytesIO:
            raise OSError(5, "Input/output error")

        with pytest.raises(ProviderBusy, match="on this machine"):
            await bench.trainer().start(order(dataset=replace(dataset(b""), open=broken)))


class TestLostAnswers:
    @pytest.mark.parametrize("scenario", ["reply_lost", "gateway_timeout_created"])
    async def test_what_was_made_is_found_by_its_title(self, wire: Bench, scenario: str) -> None:
        trainer = wire.trainer(scenario)
        assert await trainer.find(TAG) is None
        with pytest.raises(ProviderBusy, match="the answer was lost") as refusal:
            await trainer.start(order())
        assert refusal.value.retry_after_seconds == 60
        found = await trainer.find(TAG)
        [number] = wire.simulator.tunes
        assert found == Started(str(number), url=f"https://www.astria.ai/tunes/{number}")

    async def test_what_was_not_made_is_started_again(self, bench: Bench) -> None:
        trainer = bench.trainer("gateway_timeout_lost")
        with pytest.raises(ProviderBusy, match="the answer was lost"):
            await trainer.start(order())
        assert await trainer.find(TAG) is None
        started = await trainer.start(order())
        assert list(bench.simulator.tunes) == [int(started.reference)]

    async def test_a_late_answer_is_lost_after_the_time_limit(self, wire: Bench) -> None:
        trainer = wire.trainer("reply_late", create_limit_seconds=0.3)
        with pytest.raises(ProviderBusy, match="the answer was lost"):
            await trainer.start(order())
        assert await trainer.find(TAG) is not None

    async def test_with_idempotent_titles_the_same_tag_is_one_tune(self) -> None:
        simulator = AstriaSimulator(idempotent_title=True)
        async with serving(simulator.app) as base_url, httpx2.AsyncClient(trust_env=False) as http:
            trainer = Bench(simulator, http, base_url).trainer()
            assert await trainer.start(order()) == await trainer.start(order())
            assert len(simulator.tunes) == 1

    @pytest.mark.parametrize("status", [502, 503, 504, 524])
    async def test_a_gateway_answers_for_a_program_that_goes_on(self, status: int) -> None:
        with pytest.raises(ProviderBusy, match="the answer was lost"):
            await told([httpx2.Response(status, html="<h1>no</h1>")]).start(order())

    @pytest.mark.parametrize("answer", [b"", b"{", b"[]", b'{"id": null}', b'{"id": "x"}', b"[" * 100_000])
    async def test_an_answer_without_an_id_is_lost(self, answer: bytes) -> None:
        with pytest.raises(ProviderBusy) as refusal:
            await told([httpx2.Response(201, content=answer)]).start(order())
        assert refusal.value.retry_after_seconds == 60

    async def test_an_address_where_nobody_is_was_never_asked(self) -> None:
        async with httpx2.AsyncClient(trust_env=False) as http:
            trainer = Bench(AstriaSimulator(), http, "http://127.0.0.1:1").trainer()
            with pytest.raises(ProviderBusy, match="could not be reached"):
                await trainer.start(order())


class TestFind:
    async def test_it_looks_through_pages_and_takes_the_newest(self, bench: Bench) -> None:
        trainer = bench.trainer()
        first = await trainer.start(order())
        for number in range(105):
            await trainer.start(order(f"run-{number:032x}-1"))
        assert await trainer.find(TAG) == first
        assert [one.query for one in bench.simulator.journal.of("GET", "/tunes")] == [
            "limit=100",
            f"limit=100&before_id={int(first.reference) + 6}",
        ]
        second = await trainer.start(order())
        assert await trainer.find(TAG) == second
        assert await trainer.find("run-unknown") is None

    async def test_it_ends_even_where_the_vendor_gives_the_same_page_for_ever(self) -> None:
        asked = 0

        def answer(request: httpx2.Request) -> httpx2.Response:
            nonlocal asked
            asked += 1
            return httpx2.Response(200, json=[bodies.TUNE] * 100)

        assert await told(answer).find(TAG) is None
        assert asked == 2

    async def test_it_ends_after_so_many_pages(self) -> None:
        numbers = iter(range(10_000_000, 0, -1))

        def answer(request: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(200, json=[bodies.TUNE | {"id": next(numbers)} for _ in range(100)])

        assert await told(answer, most_pages=3).find(TAG) is None
        assert next(numbers) == 10_000_000 - 300

    async def test_no_list_is_no_answer(self) -> None:
        with pytest.raises(ProviderBusy, match="something else than a list"):
            await told([httpx2.Response(200, json={"tunes": []})]).find(TAG)


class TestRefusals:
    @pytest.mark.parametrize(
        ("scenario", "kind", "sentence"),
        [
            ("unauthorized", CredentialRefused, r"refused the key \(401\): HTTP Token: Access denied."),
            ("no_money", CredentialRefused, "paid plan or more credit for this account: Training models"),
            ("bad_request", ProviderRefused, r"\(400\): callback is not a valid URL"),
            (
                "unprocessable",
                ProviderRefused,
                r"\(422\): images could not be read; name is not supported by the preset",
            ),
            ("unprocessable_message", ProviderRefused, r"\(422\): Validation failed: images could not be read"),
            ("unprocessable_error", ProviderRefused, r"\(422\): images could not be read"),
            ("unprocessable_errors", ProviderRefused, r"\(422\): images could not be read; name is not supported"),
            ("unprocessable_empty", ProviderRefused, r"\(422\)\.$"),
        ],
    )
    async def test_the_vendors_words_are_kept(
        self, bench: Bench, scenario: str, kind: type[ProviderRefused], sentence: str
    ) -> None:
        with pytest.raises(kind, match=sentence) as refusal:
            await bench.trainer(scenario).start(order())
        assert type(refusal.value) is kind
        assert bench.simulator.tunes == {}

    @pytest.mark.parametrize("body", bodies.REFUSALS_422)
    async def test_every_shape_of_422_that_users_saw_is_read(self, body: object) -> None:
        answer = httpx2.Response(422) if body is None else httpx2.Response(422, json=body)
        with pytest.raises(ProviderRefused) as refusal:
            await told([answer]).start(order())
        expected = "." if body is None else ": images could not be read"
        if isinstance(body, dict) and "images" in body:
            expected = ": images could not be read"
        assert str(refusal.value) == f"Astria refused the request (422){expected}"

    async def test_secrets_that_the_vendor_repeats_are_hidden(self) -> None:
        said = {"callback": [f"{CALLBACK} is not allowed for sd_key\0"]}
        with pytest.raises(ProviderRefused) as refusal:
            await told([httpx2.Response(422, json=said)]).start(order())
        assert str(refusal.value) == "Astria refused the request (422): callback ••• is not allowed for •••\ufffd"

    async def test_long_words_are_cut(self) -> None:
        with pytest.raises(ProviderRefused) as refusal:
            await told([httpx2.Response(422, json={"error": "x" * 10_000})]).start(order())
        assert len(str(refusal.value)) < 2_100

    async def test_a_page_for_browsers_is_not_repeated(self) -> None:
        with pytest.raises(CredentialRefused) as refusal:
            await told([httpx2.Response(403, html="<html>Attention required</html>")]).start(order())
        assert "html" not in str(refusal.value)

    async def test_a_redirect_is_not_followed(self) -> None:
        answers = [httpx2.Response(302, headers={"location": "https://evil.example/"})]
        with pytest.raises(ProviderRefused, match="leads elsewhere"):
            await told(answers).start(order())

    @pytest.mark.parametrize("key", ["", "sd_key\r\nx: y", "sd key", "sd_ключ"])
    async def test_a_key_that_is_none_is_refused_without_repeating_it(self, bench: Bench, key: str) -> None:
        trainer = bench.trainer()
        with pytest.raises(CredentialRefused) as refusal:
            trainer.account = replace(trainer.account, api_key=Secret(key))
            trainer._wire.account = trainer.account
            await trainer.start(order())
        assert not key or key not in str(refusal.value)
        assert bench.simulator.journal.entries == []
