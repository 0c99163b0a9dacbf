"""People, cats and dogs of a generated COCO."""

import numpy as np

from mtl_plugins.synthetic.coco.shapes import Coat, Part, dye, limb, oval, patch, pattern, pick, polygon, stick, swing_chain

# fmt: off
_SKINS = ((244, 208, 177), (224, 172, 140), (198, 134, 98), (141, 85, 54), (92, 56, 38))
_HAIRS = ((30, 26, 24), (70, 45, 28), (120, 80, 45), (210, 170, 100), (170, 165, 160), (140, 60, 30))
_FURS = (
    (35, 32, 32), (95, 92, 95), (150, 148, 146), (120, 80, 50), (205, 140, 75), (225, 205, 170), (240, 236, 228),
    (75, 55, 40),
)
# fmt: on


def person(rng: np.random.Generator) -> list[Part]:
    """Head, hair, torso, two arms and two legs, walking or standing, seen from the side or the front."""
    skin, hair, shirt, trousers, shoe = pick(rng, _SKINS), pick(rng, _HAIRS), dye(rng), dye(rng), dye(rng) * 0.5
    cloth = pattern(rng, ('plain', 'plain', 'stripes', 'checks'), shirt, (0.035, 0.08))
    half = rng.uniform(0.075, 0.11)
    stride, lean = rng.uniform(0, 0.5) * (rng.random() < 0.6), rng.normal(0, 0.02)
    skirt = rng.random() < 0.25
    parts = []
    for side in (-1, 1):
        hip = (side * half * 0.5, -0.5)
        leg = swing_chain(hip, (side * stride, side * stride - abs(stride) * rng.uniform(0, 0.8)), (0.24, 0.23))
        shade = 0.8 if side < 0 else 1.0
        parts.append(stick(shade * (skin if skirt else trousers), leg, (0.09, 0.07, 0.05)))
        x, y = leg[-1]
        parts.append(stick(shoe, [(x - 0.01, y), (x + 0.045, y + 0.012)], (0.05, 0.035)))
    arms = []
    for side in (-1, 1):
        raised = rng.random() < 0.18
        swing = rng.uniform(2.0, 2.9) * side if raised else -side * stride * 0.8 + side * rng.uniform(0.05, 0.35)
        arm = swing_chain(
            (side * half * 0.85 + lean, -0.79), (swing, swing + rng.uniform(0, 0.7) * (1 if raised else side)), (0.17, 0.15)
        )
        arms.append([stick(shirt * (0.78 if side < 0 else 0.95), arm, (0.06, 0.05, 0.04)), Part([oval(*arm[-1], 0.026)], skin)])
    left = [(-half * 0.85, -0.48), (-half * 1.02, -0.68), (-half + lean, -0.84)]
    right = [(half + lean, -0.84), (half * 1.02, -0.68), (half * 0.85, -0.48)]
    torso = polygon(*left, *right, rounds=1)
    parts += arms[0]
    if skirt:
        flare = half * rng.uniform(1.2, 1.9)
        parts.append(patch(trousers, (-half * 0.8, -0.56), (half * 0.8, -0.56), (flare, -0.3), (-flare, -0.3)))
    parts.append(stick(skin * 0.9, [(lean, -0.85), (lean * 1.5, -0.9)], 0.05))
    parts.append(Part([torso], shirt, coat=cloth))
    parts += arms[1]
    head = (lean * 1.6, -0.93)
    radius = rng.uniform(0.055, 0.066)
    if rng.random() < 0.4:
        parts.append(Part([oval(head[0] - 0.012, head[1] + 0.035, radius * 1.1, radius * 1.7)], hair))
    parts.append(Part([oval(*head, radius * 0.9, radius * 1.12)], skin))
    crown = oval(*head, radius * 1.02, radius * 1.2)[10:20]
    parts.append(patch(hair, *crown, (head[0] - radius * 0.2, head[1] - radius * 0.45)))
    return parts


def cat(rng: np.random.Generator) -> list[Part]:
    """Round head, pointed ears, short muzzle and a long thin tail; sitting or walking; often striped."""
    fur = pick(rng, _FURS)
    coat = pattern(rng, ('stripes', 'stripes', 'plain', 'spots'), fur, (0.06, 0.12))
    paler = np.clip(fur * 0.5 + 120, 0, 248)
    if rng.random() < 0.5:
        curl = rng.uniform(-0.15, 0.15)
        tail = (-0.2, -0.06), (-0.36, -0.05), (-0.46, -0.14), (-0.46 + curl, -0.28)
        body = (-0.3, 0), (-0.3, -0.2), (-0.16, -0.52), (0.06, -0.66), (0.2, -0.5), (0.2, -0.02)
        legs = limb([(0.08, -0.36), (0.13, -0.02)], (0.12, 0.08)) + limb([(0.0, -0.3), (0.03, -0.02)], (0.1, 0.08))
        parts = [stick(fur * 0.9, tail, (0.09, 0.08, 0.07, 0.05), coat=coat), patch(fur, *body, rounds=2, coat=coat)]
        parts.append(Part(legs, fur * 1.06, coat=coat))
        return parts + _cat_head(fur, paler, coat, (0.1, -0.74), 0.19)
    swing = rng.uniform(-0.35, 0.35)
    bend = rng.uniform(0.1, 0.3)
    tail = (-0.36, -0.36), (-0.46, -0.52), (-0.44, -0.72), (-0.44 + bend, -0.82)
    parts = [stick(fur * 0.9, tail, (0.08, 0.065, 0.055, 0.04), coat=coat)]
    for x, phase in ((-0.3, 1), (0.16, -1), (-0.22, -1), (0.24, 1)):
        leg = swing_chain((x, -0.24), (phase * swing, phase * swing * 0.4), (0.13, 0.1))
        parts.append(stick(fur * (0.82 if phase * x > 0 else 1.0), leg, (0.11, 0.07, 0.065)))
    body = (-0.42, -0.2), (-0.42, -0.42), (-0.1, -0.43), (0.3, -0.46), (0.34, -0.2), (-0.1, -0.15)
    parts.append(patch(fur, *body, rounds=2, coat=coat))
    return parts + _cat_head(fur, paler, coat, (0.36, -0.5), 0.155)


def _cat_head(fur: np.ndarray, paler: np.ndarray, coat: Coat | None, at: tuple[float, float], r: float) -> list[Part]:
    x, y = at
    dark = np.array([25, 22, 22.0])
    parts = []
    for side in (-1, 1):
        ear = polygon((x + side * r * 0.95, y - r * 0.3), (x + side * r * 0.85, y - r * 1.5), (x + side * r * 0.15, y - r * 0.75))
        inner = polygon((x + side * r * 0.8, y - r * 0.6), (x + side * r * 0.76, y - r * 1.2), (x + side * r * 0.4, y - r * 0.75))
        parts += [Part([ear], fur * 0.95), Part([inner], np.array([215, 150, 145.0]))]
    parts.append(Part([oval(x, y, r * 1.08, r * 0.92)], fur, coat=coat))
    eyes, pupils = ([oval(x + side * r * 0.45, y - r * 0.1, r * width, r * 0.17) for side in (-1, 1)] for width in (0.2, 0.07))
    parts.append(Part([oval(x + side * r * 0.2, y + r * 0.45, r * 0.3, r * 0.25) for side in (-1, 1)], paler))
    parts += [Part(eyes, np.array([190, 200, 80.0])), Part(pupils, dark)]
    parts.append(patch(np.array([200, 110, 110.0]), (x - r * 0.14, y + r * 0.2), (x + r * 0.14, y + r * 0.2), (x, y + r * 0.38)))
    return parts


def dog(rng: np.random.Generator) -> list[Part]:
    """Long muzzle, hanging ears, strong legs, a short tail and a collar; standing, walking or sitting; often spotted."""
    fur = pick(rng, _FURS)
    coat = pattern(rng, ('spots', 'spots', 'plain', 'plain'), fur, (0.14, 0.26))
    dark = np.array([25, 22, 22.0])
    ear = np.clip(fur * rng.uniform(0.45, 0.7), 8, 248)
    collar = dye(rng)
    if rng.random() < 0.3:
        parts = [stick(fur * 0.9, [(-0.24, -0.06), (-0.42, -0.1)], (0.08, 0.05))]
        body = (-0.32, 0), (-0.32, -0.22), (-0.1, -0.55), (0.08, -0.68), (0.24, -0.5), (0.18, -0.02)
        parts.append(patch(fur, *body, rounds=2, coat=coat))
        parts.append(stick(fur * 1.05, [(0.1, -0.4), (0.16, -0.03), (0.21, -0.02)], (0.14, 0.09, 0.07)))
        x, y = 0.1, -0.74
    else:
        swing, lift = rng.uniform(-0.4, 0.4), rng.uniform(-0.1, 0.3)
        parts = [stick(fur * 0.95, [(-0.38, -0.48), (-0.48, -0.52 - lift)], (0.07, 0.04))]
        for x, phase in ((-0.32, 1), (0.14, -1), (-0.24, -1), (0.22, 1)):
            leg = swing_chain((x, -0.36), (phase * swing, phase * swing * 0.3), (0.18, 0.16))
            parts.append(
                stick(fur * (0.8 if phase * x > 0 else 1.0), [*leg, (leg[-1][0] + 0.03, leg[-1][1])], (0.13, 0.075, 0.07, 0.05))
            )
        body = (-0.44, -0.3), (-0.42, -0.54), (0.0, -0.53), (0.3, -0.6), (0.34, -0.3), (0.0, -0.28)
        parts.append(patch(fur, *body, rounds=2, coat=coat))
        parts.append(stick(fur, [(0.26, -0.5), (0.34, -0.68)], (0.2, 0.15), coat=coat))
        parts.append(stick(collar, [(0.22, -0.62), (0.4, -0.57)], 0.035))
        x, y = 0.36, -0.74
    parts.append(stick(fur * 1.04, [(x + 0.04, y + 0.02), (x + 0.22, y + 0.06)], (0.19, 0.1)))
    parts.append(Part([oval(x, y, 0.13, 0.12)], fur))
    parts.append(Part([oval(x - 0.1, y + 0.06, 0.055, 0.14, 0.25)], ear))
    parts.append(Part([oval(x + 0.26, y + 0.03, 0.03, 0.026), oval(x + 0.06, y - 0.03, 0.02)], dark))
    parts.append(stick(dark, [(x + 0.12, y + 0.1), (x + 0.24, y + 0.1)], 0.012))
    return parts
