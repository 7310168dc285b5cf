"""Each trainer's own lines, as the fact pages give them."""

import pytest

from domain.training.progress import estimated, overall
from domain.training.status import WarningCode
from jobs.trainer_logs import LogReader
from jobs.trainer_logs.bars import segments
from jobs.trainer_logs.registry import FORMATS, sign_of
from jobs.trainer_logs.sign import Known
from tests.jobs.trainer_logs.golden import AT
from tests.jobs.trainer_logs.hearing import hear, percents

FLUX = "flux_train_replicate:  31%|███       | 311/1000 [03:01<06:42,  1.60it/s, lr: 4.0e-04 loss: 3.512e-01]"


def test_a_flux_line_at_31_percent_is_36_35_of_the_run() -> None:
    said = LogReader().feed(FLUX + "\r", AT)
    assert said.percent is not None
    assert overall(said.percent) == 36.35
    assert said.eta_seconds == 402
    assert {(one.name, one.step, one.value) for one in said.readings} == {
        ("loss", 311, 0.3512),
        ("learning_rate", 311, 0.0004),
    }


@pytest.mark.parametrize("line", ["150/1000", "step 00150/01000 (15.0%) | loss: 3.21", "Step 150 of 1000"])
def test_step_150_of_1000_is_22_75_of_the_run(line: str) -> None:
    assert [overall(percent) for percent in percents(line)] == [22.75]


def test_two_minutes_without_a_word_are_about_14() -> None:
    assert LogReader().feed("", AT).percent is None
    assert estimated(120) == 14.0


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (FLUX, "flux"),
        ("my_lora:  12%|█▏ | 240/2000 [05:01<36:40,  1.25s/it, lr: 1.0e-04 loss: 3.512e-01]", "ai-toolkit"),
        ("steps:  38%|███▊ | 36/96 [13:09<21:55, 21.93s/it, avr_loss=0.0796]", "kohya"),
        ("epoch 1/16", "kohya"),
        ("total optimization steps / 学習ステップ数: 1600", "kohya"),
        ("{'loss': 1.2569, 'grad_norm': 0.11, 'learning_rate': 5.4e-06, 'epoch': 0.9}", "hugging-face"),
        ("{'loss': '1.257', 'grad_norm': '0.11', 'learning_rate': '5.4e-06', 'epoch': '0.9'}", "hugging-face"),
        ("{'train_runtime': 123.4, 'train_loss': 0.5, 'epoch': 3.0}", "hugging-face"),
        ("Epoch 1/2", "keras"),
        ("1/3 ━━━━━━━━━━━━━━━━━━━━ 0s 418ms/step - loss: 0.5045 - mae: 0.64", "keras"),
        ("4/4 - 0s - 326us/step - loss: 0.3765", "keras"),
        ("1000/1000 [=====] - 251s 251ms/step - loss: 0.43 - val_loss: 0.51", "keras"),
        ("Epoch 80:  67%|██ | 10/15 [02:53<01:18, 15.76s/it, loss=0.429, v_num=3]", "lightning"),
        ("Validation DataLoader 0:  50%|█████ | 2/4 [00:00<00:00, 46.51it/s]", "lightning"),
        ("step 00050/01000 (5.0%) | loss: 3.21 | dt: 120.00ms", "nanogpt"),
        (" 31%|███       | 311/1000 [03:01<06:42,  1.60it/s]", "tqdm"),
        ("150/1000", "counters"),
    ],
)
def test_each_format_has_its_parser(line: str, name: str) -> None:
    sign = sign_of(segments(line)[0], Known())
    assert sign is not None
    assert sign.format == name
    assert name in {format.NAME for format in FORMATS}


@pytest.mark.parametrize(
    "line",
    [
        "captioning: 100%|██████████| 10/10 [00:03<00:00,  3.1it/s]",
        "loaded 10/10 images",
        "Caching latents: 100%|██████████| 1000/1000 [00:03<00:00,  3.1it/s]",
        "Validation DataLoader 0: 100%|██████████| 4/4 [00:00<00:00, 46.51it/s]",
        "Sanity Checking: |          | 0/? [00:00<?, ?it/s]",
        "Loading checkpoint shards: 100%|██████████| 25/25 [00:30<00:00,  1.2s/it]",
        "Map (num_proc=4): 100%|██████████| 5000/5000 [00:30<00:00, 120.1 examples/s]",
        "Generating train split: 1000 examples [00:00, 5000.12 examples/s]",
        "Downloading model.safetensors:  45%|████▌     | 1.1G/2.4G [00:10<00:12, 100MB/s]",
        "32/32 [==============================] - 1s 12ms/step - loss: 0.4698",
        "2026/01/02 12:00:00 started",
        "100%|██████████| 10/10 [00:03<00:00,  3.1it/s]",
        "There are 3/4 of the packages.",
        "epochs: 5",
        "RuntimeError: 50/100",
    ],
)
def test_other_work_is_not_progress(line: str) -> None:
    heard = hear([line + "\n"])
    assert heard.percent is None
    assert heard.readings == []
    assert heard.texts == [line.strip()]


def test_only_the_bar_to_the_ordered_steps_counts() -> None:
    lines = [
        "  5%|▌         | 50/1000 [00:03<00:60,  3.1it/s]",
        " 90%|█████████ | 450/500 [00:03<00:60,  3.1it/s]",
        "  6%|▌         | 60/1000 [00:03<00:60,  3.1it/s]",
    ]
    assert percents(*lines, steps=500) == [0, 90, 90]
    assert percents(*lines, steps=1000) == [5, 5, 6]


def test_the_jobs_own_bar_wins_over_every_other() -> None:
    lines = [
        "my_lora:  10%|█         | 10/100 [00:03<00:60,  3.1it/s]",
        "train:  90%|█████████ | 90/100 [00:03<00:60,  3.1it/s, loss=0.1]",
        "my_lora:  11%|█         | 11/100 [00:03<00:60,  3.1it/s]",
    ]
    assert percents(*lines, job="my_lora") == [10, 10, 11]


def test_a_bare_bar_belongs_to_what_was_announced_before_it() -> None:
    caching = ["caching latents...", "100%|██████████| 40/40 [00:20<00:00,  2.0it/s]"]
    training = ["running training", " 10%|█         | 4/40 [00:20<03:00,  2.0it/s]"]
    assert percents(*caching) == [0, 0]
    assert percents(*training) == [0, 10]
    assert percents(*caching, *training) == [0, 0, 0, 10]


def test_progress_never_falls_and_is_never_whole() -> None:
    line = "train: {0:3d}%|█| {0}/100 [00:03<00:60, 3.1it/s, loss=0.1]"
    assert percents(*(line.format(done) for done in (10, 60, 20, 100, 5))) == [10, 60, 60, 99.9, 99.9]


def test_an_epochs_bar_counts_within_its_epoch() -> None:
    bar = "Epoch {0}: {1:3d}%|███ | {1}/100 [00:50<00:50, 1.0it/s, loss=0.4, v_num=3]"
    lines = [bar.format(0, 50), bar.format(1, 0), bar.format(1, 50), bar.format(3, 100)]
    assert percents(*lines, epochs=4) == [12.5, 25, 37.5, 99.9]
    assert percents(*lines) == [0, 0, 0, 0]  # nobody said how many there are
    assert percents(*lines, steps=400) == [12.5, 25, 37.5, 99.9]


def test_an_epochs_bar_tells_the_time_of_the_whole() -> None:
    said = LogReader(epochs=4).feed("Epoch 1:  50%|███ | 50/100 [00:50<00:50, 1.0it/s, loss=0.4, v_num=3]\r", AT)
    assert said.percent == 37.5
    assert said.eta_seconds == 50 + 2 * 100


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [((0, 1, 2), [12.5, 37.5, 62.5]), ((1, 2, 3), [12.5, 37.5, 62.5])],
    ids=["from zero", "from one"],
)
def test_epochs_are_counted_from_zero_or_one(numbers: tuple[int, ...], expected: list[float]) -> None:
    bar = "Epoch {}:  50%|███ | 50/100 [00:50<00:50, 1.0it/s, loss=0.4]"
    assert percents(*(bar.format(number) for number in numbers), epochs=4) == expected
    bar = "Epoch {}/4:  50%|███ | 50/100 [00:50<00:50, 1.0it/s, loss=0.4]"
    assert percents(*(bar.format(number) for number in numbers)) == expected


def test_a_bar_after_an_epochs_line_is_of_that_epoch() -> None:
    bar = "{0:3d}%|█| {0}/100 [00:50<00:50, 1.0it/s]"
    validation = "100%|█| 30/30 [00:10<00:00, 3.0it/s]"
    lines = ["Epoch 1/2", bar.format(50), bar.format(100), validation, "Epoch 2/2", bar.format(50), bar.format(100)]
    assert percents(*lines) == [0, 25, 50, 50, 50, 75, 99.9]


def test_evaluation_after_an_epoch_gives_no_readings() -> None:
    heard = hear(
        [
            "Epoch 1/1\n",
            "\r2/2 ━━━━━━━━━━━━━━━━━━━━ 0s 4ms/step - loss: 0.5 - val_loss: 0.6\n",
            "\r1/7 ━━━━━━━━━━━━━━━━━━━━ 0s 4ms/step - loss: 0.9\r3/7 ━━━━━━━━━━━━━━━━━━━━ 0s 4ms/step - loss: 0.8\n",
        ]
    )
    assert heard.values == {("loss", 2): 0.5, ("val_loss", 2): 0.6}


def test_rows_take_their_step_from_the_bar_or_from_their_epoch() -> None:
    row = "{{'loss': {}, 'epoch': {}}}\n"
    beside_a_bar = hear(["  4%|▍ | 20/500 [00:10<04:00,  2.0it/s]\r", row.format(1.5, 0.1)])
    assert beside_a_bar.values == {("loss", 20): 1.5}
    by_epoch = hear(["  Num Epochs = 3\n  Total optimization steps = 60\n", row.format(1.5, 0.25)])
    assert by_epoch.values == {("loss", 5): 1.5}
    assert by_epoch.percent == pytest.approx(8.333)
    alone = hear([row.format(1.5, 0.1), row.format(1.4, 0.2)])
    assert alone.values == {("loss", 1): 1.5, ("loss", 2): 1.4}
    assert alone.percent is None


@pytest.mark.parametrize(
    "line",
    [
        "steps:  50%|█████ | 48/96 [17:33<17:33, 21.95s/it, avr_loss=nan]",
        "{'loss': nan, 'grad_norm': 0.1, 'epoch': 0.5}",
        "{'loss': 'inf', 'epoch': '0.5'}",
        "iter 100: loss nan, time 30.00ms",
        "Epoch [1/4], Step [100/200], Loss: nan",
    ],
)
def test_a_loss_that_is_no_number_is_warned_of_once(line: str) -> None:
    heard = hear([line + "\n", line + "\n"])
    assert [warning.code for warning in heard.warnings] == [WarningCode.NAN_LOSS]
    assert "loss is " in heard.warnings[0].message
    assert all(name != "loss" for name, _ in heard.values)


def test_a_norm_that_is_no_number_is_none_of_our_business() -> None:
    heard = hear(["{'loss': 0.5, 'grad_norm': nan, 'epoch': 0.5}\n"])
    assert heard.warnings == []
    assert heard.values == {("loss", 1): 0.5}


def test_a_bar_gives_a_thousand_readings_at_most() -> None:
    bar = "train: {0:3d}%|█| {1}/20000 [00:50<00:50, 1.0it/s, loss={2}]\r"
    heard = hear(["".join(bar.format(step // 200, step, 1 - step / 20_000) for step in range(20_001))])
    assert 900 <= len(heard.readings) <= 1_010
    assert heard.readings[-1].step == 20_000


def test_rows_are_thinned_when_they_are_many() -> None:
    heard = hear(["".join(f"iter {step}: loss {1 / (step + 1)}, time 3ms\n" for step in range(10_000))])
    steps = [reading.step for reading in heard.readings]
    assert steps[:1000] == list(range(1000))
    assert 2_100 < len(steps) < 2_500


def test_a_value_that_a_bar_only_repeats_is_no_reading() -> None:
    heard = hear(
        [
            "Epoch 0: 100%|█| 2/2 [00:00<00:00, 4.0it/s, train_loss=0.5, val_loss=0.4]\r",
            "Epoch 1:   0%|█| 0/2 [00:00<00:00, 4.0it/s, train_loss=0.5, val_loss=0.4]\r",
            "Epoch 1: 100%|█| 2/2 [00:00<00:00, 4.0it/s, train_loss=0.3, val_loss=0.4]\r",
            "Epoch 1: 100%|█| 2/2 [00:00<00:00, 4.0it/s, train_loss=0.3, val_loss=0.2]\n",
        ],
        epochs=2,
    )
    assert heard.values == {("loss", 2): 0.5, ("val_loss", 2): 0.4, ("loss", 4): 0.3, ("val_loss", 4): 0.2}


@pytest.mark.parametrize(
    ("times", "seconds"),
    [("00:10<00:30", 30), ("1:48:24<2:00:01", 7201), ("00:00<?", None), ("30:00:00<100:00:00", 360_000)],
)
def test_time_left_is_read_in_hours_too(times: str, seconds: float | None) -> None:
    said = LogReader().feed(f"train:  25%|██▌ | 25/100 [{times}, 1.25s/it, loss=0.3]\r", AT)
    assert said.eta_seconds == seconds
