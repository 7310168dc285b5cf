"""GPU types with list prices (US dollars per hour and GPU, autumn 2026) and data centers, as the catalog shows them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

IMAGES_CUDA = "12.8"


@dataclass(frozen=True, slots=True)
class Gpu:
    id: str
    name: str
    memory: int
    secure: float
    community: float
    """0 where the community cloud has none."""
    most: int = 8
    pool: str | None = None
    manufacturer: str = "NVIDIA"

    def price(self, cloud: str) -> float:
        return self.secure if cloud == "SECURE" else self.community


GPUS: Mapping[str, Gpu] = {
    gpu.id: gpu
    for gpu in (
        Gpu("NVIDIA GeForce RTX 3070", "RTX 3070", 8, 0.15, 0.13),
        Gpu("NVIDIA GeForce RTX 3080", "RTX 3080", 10, 0.18, 0.17),
        Gpu("NVIDIA GeForce RTX 3090", "RTX 3090", 24, 0.43, 0.22, pool="AMPERE_24"),
        Gpu("NVIDIA GeForce RTX 4080", "RTX 4080", 16, 0.5, 0.27),
        Gpu("NVIDIA GeForce RTX 4090", "RTX 4090", 24, 0.69, 0.34, pool="ADA_24"),
        Gpu("NVIDIA GeForce RTX 5090", "RTX 5090", 32, 0.89, 0.69),
        Gpu("NVIDIA RTX A4000", "RTX A4000", 16, 0.25, 0.17, pool="AMPERE_16"),
        Gpu("NVIDIA RTX A5000", "RTX A5000", 24, 0.27, 0.16, pool="AMPERE_24"),
        Gpu("NVIDIA RTX A6000", "RTX A6000", 48, 0.49, 0.33, pool="AMPERE_48"),
        Gpu("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada", 48, 0.77, 0.74, pool="ADA_48_PRO"),
        Gpu("NVIDIA A40", "A40", 48, 0.4, 0.35, pool="AMPERE_48"),
        Gpu("NVIDIA L4", "L4", 24, 0.39, 0.0, pool="AMPERE_24"),
        Gpu("NVIDIA L40S", "L40S", 48, 0.86, 0.79, pool="ADA_48_PRO"),
        Gpu("NVIDIA A100 80GB PCIe", "A100 PCIe", 80, 1.64, 1.19, pool="AMPERE_80"),
        Gpu("NVIDIA A100-SXM4-80GB", "A100 SXM", 80, 1.79, 1.39, pool="AMPERE_80"),
        Gpu("NVIDIA H100 PCIe", "H100 PCIe", 80, 2.89, 1.99, pool="ADA_80_PRO"),
        Gpu("NVIDIA H100 80GB HBM3", "H100 SXM", 80, 3.49, 2.69, pool="ADA_80_PRO"),
        Gpu("NVIDIA H200", "H200 SXM", 141, 3.99, 3.59, pool="HOPPER_141"),
        Gpu("NVIDIA B200", "B200", 180, 5.99, 0.0, pool="BLACKWELL_180"),
        Gpu("AMD Instinct MI300X OAM", "MI300X", 192, 1.99, 0.0, manufacturer="AMD"),
    )
}
CENTERS: Mapping[str, tuple[str, str]] = {
    "EU-RO-1": ("EU Romania 1", "EUROPE"),
    "EU-SE-1": ("EU Sweden 1", "EUROPE"),
    "US-KS-2": ("US Kansas 2", "NORTH_AMERICA"),
    "US-TX-3": ("US Texas 3", "NORTH_AMERICA"),
}
"""Id → name, region."""


def gpu_json(gpu: Gpu, *, availability: str | None) -> dict[str, Any]:
    """A GPU type; with stock only where it was asked for."""
    shown: dict[str, Any] = {
        "id": gpu.id,
        "name": gpu.name,
        "pool": gpu.pool,
        "manufacturer": gpu.manufacturer,
        "memory": gpu.memory,
        "secure": gpu.secure > 0,
        "community": gpu.community > 0,
        "price": {"secure": gpu.secure, "community": gpu.community},
        "maxCount": {
            "secure": gpu.most if gpu.secure else 0,
            "community": gpu.most // 2 if gpu.community else 0,
        },
    }
    if availability is None:
        return shown
    shown["availability"] = availability
    if availability != "NONE":
        shown["dataCenters"] = [
            {"id": center, "name": name, "availability": availability} for center, (name, _) in CENTERS.items()
        ]
        if gpu.manufacturer == "NVIDIA":
            shown["cudaVersions"] = [
                {"version": version, "available": True} for version in ("12.4", "12.6", IMAGES_CUDA)
            ]
    return shown


def center_json(center: str, stock: Mapping[str, str] | None) -> dict[str, Any]:
    """A data center; with each GPU type's stock only where it was asked for."""
    name, region = CENTERS[center]
    shown: dict[str, Any] = {
        "id": center,
        "name": name,
        "region": region,
        "globalNetwork": True,
        "networkVolumeTypes": ["STANDARD", "HIGH_PERFORMANCE"],
        "compliance": ["SOC_2_TYPE_2", "ISO_IEC_27001"],
    }
    if stock is not None:
        shown["gpuAvailability"] = [
            {"id": gpu.id, "name": gpu.name, "availability": stock[gpu.id]} for gpu in GPUS.values()
        ]
    return shown
