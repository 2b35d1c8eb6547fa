"""What features lose in each stored type: relative RMS error on seeded vectors. `python -m benchmarks.vectors`."""

from __future__ import annotations

import numpy as np

from schemas import vectors


def main() -> None:
    features = np.random.default_rng(0).standard_exponential((55 * 16, 2048))
    print(f"{len(features)} exponential vectors of 2048, seed 0; error relative to float64, float16 = 1")
    errors = {}
    for stored in ("float16", "float32", "int8"):
        numbers, scales = vectors.pack(features, stored)
        back = vectors.unpack(numbers, scales, len(features), vectors.NUMPY[stored]).astype(np.float64)
        errors[stored] = float(np.sqrt(((back - features) ** 2).mean() / (features**2).mean()))
        size = (len(numbers) + len(scales or b"")) // 16
        print(
            f"{stored:8} {size:9,} bytes a row  error {errors[stored]:.2e}  {errors[stored] / errors['float16']:8.2g}×"
        )


if __name__ == "__main__":
    main()
