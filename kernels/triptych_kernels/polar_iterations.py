"""Coefficients of the iterations that make a matrix orthogonal, by method.

An iteration is x <- a x + (b g + c g^2) x with g = x x', on singular values up to 1.
"""

# (a, b, c) of each iteration.
Coefficients = tuple[tuple[float, float, float], ...]
# Jordan et al. 2024: the same each time; singular values end between 0.7 and 1.2.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
# Amsel et al. 2025, algorithm 1: the best polynomial for what the ones before left,
# for singular values from 1e-3 of the norm; the last repeats.
POLAR_EXPRESS: Coefficients = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)
SAFETY = 1.01  # all but the last are for values up to this much larger: 16-bit errors
METHODS = ("newton-schulz", "polar-express")


def coefficients(steps: int, method: str) -> Coefficients:
    """Of each iteration of a method."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, found `{method}`")
    if method == "newton-schulz":
        return (NEWTON_SCHULZ,) * steps
    safe = tuple(
        (a / SAFETY, b / SAFETY**3, c / SAFETY**5) for a, b, c in POLAR_EXPRESS[:-1]
    )
    last = (POLAR_EXPRESS[-1],) * max(0, steps - len(safe))
    return (safe + last)[:steps]
