"""What Replicate's hardware costs.

Source: replicate.com/pricing, read on 2026-11-20, in dollars per second of run time. No answer of the API tells a
price, nor which hardware a training runs on; the page says that Flux fine-tunes run on an H100.
"""

import re
from collections.abc import Mapping
from decimal import Decimal

MICROS_PER_HOUR: Mapping[str, int] = {
    sku: int(Decimal(dollars_per_second) * 3_600 * 1_000_000)
    for sku, dollars_per_second in (
        ("cpu", "0.000100"),
        ("gpu-t4", "0.000225"),
        ("gpu-a40-small", "0.000575"),
        ("gpu-a40-large", "0.000725"),
        ("gpu-l40s", "0.000975"),
        ("gpu-a100-large", "0.001400"),
        ("gpu-h100", "0.001525"),
    )
}
"""Millionths of a dollar per hour, by the hardware's sku."""
USUAL_HARDWARE = "gpu-h100"
"""What is reckoned with where it is not known what a training was started with."""
_SEVERAL = re.compile(r"(?P<sku>.+)-(?P<count>[248])x")


def price_of(hardware: object, prices: Mapping[str, int] = MICROS_PER_HOUR) -> int | None:
    """The price of a sku; of `gpu-h100-4x` four times that of `gpu-h100`. None for hardware that is in no list."""
    if not isinstance(hardware, str):
        return None
    if hardware in prices:
        return prices[hardware]
    several = _SEVERAL.fullmatch(hardware)
    if several is None or several["sku"] not in prices:
        return None
    return prices[several["sku"]] * int(several["count"])
