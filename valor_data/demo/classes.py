"""What can be seen and heard in the demo's world, and the sentences that say so.

Twelve visual classes and twelve sound classes. A visual class is a shape, a colour and a motion; every shape
and every colour belongs to two classes, so that one trait alone does not name the class. A sound class is a
kind of sound with a pitch and a rhythm. Sentences name both, in words that vary.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

Rgb = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class VisualClass:
    """A coloured shape that moves.

    Attributes:
        name: the class in one word, `<colour>_<shape>`.
        shape: one of `circle`, `square`, `triangle`, `star`, `cross`, `ring`.
        colour: the colour's name, as captions write it.
        rgb: the colour, 0 to 255 each.
        motion: the name of a path in `draw.MOTIONS`.
        verbs: ways to say what the shape does.
    """

    name: str
    shape: str
    colour: str
    rgb: Rgb
    motion: str
    verbs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SoundClass:
    """A sound of one kind, pitch and rhythm.

    Attributes:
        name: the class in one word, the name of a recipe in `synth.RECIPES`.
        nouns: ways to name the sound, each with its article.
        verbs: ways to say that it is heard, fitting every noun's number.
    """

    name: str
    nouns: tuple[str, ...]
    verbs: tuple[str, ...]


_RED, _GREEN, _BLUE, _YELLOW = (220, 40, 40), (40, 190, 70), (60, 90, 235), (235, 215, 50)
_WHITE, _PURPLE = (240, 240, 240), (170, 50, 200)

VISUAL_CLASSES: tuple[VisualClass, ...] = (
    VisualClass("red_circle", "circle", "red", _RED, "bounce", ("bounces around", "bounces off the edges")),
    VisualClass("green_square", "square", "green", _GREEN, "spin", ("spins", "turns on the spot")),
    VisualClass("blue_triangle", "triangle", "blue", _BLUE, "rise", ("rises", "climbs upwards")),
    VisualClass("yellow_star", "star", "yellow", _YELLOW, "fall", ("falls", "drops downwards")),
    VisualClass("green_circle", "circle", "green", _GREEN, "pulse", ("grows and shrinks", "swells and shrinks")),
    VisualClass("red_square", "square", "red", _RED, "slide", ("slides to the right", "glides to the right")),
    VisualClass("yellow_triangle", "triangle", "yellow", _YELLOW, "swing", ("swings from side to side", "sways")),
    VisualClass("blue_star", "star", "blue", _BLUE, "orbit", ("circles the middle", "goes round and round")),
    VisualClass("white_cross", "cross", "white", _WHITE, "hop", ("hops up and down", "jumps on the spot")),
    VisualClass("purple_ring", "ring", "purple", _PURPLE, "tremble", ("trembles", "shakes all over")),
    VisualClass("purple_cross", "cross", "purple", _PURPLE, "zigzag", ("zigzags to the left", "darts to the left")),
    VisualClass("white_ring", "ring", "white", _WHITE, "spiral", ("spirals outwards", "winds its way outwards")),
)
"""In this order, so that a world of fewer classes still has different shapes and colours."""

_ONE = ("sounds", "is heard", "can be heard", "plays")
_MANY = ("sound", "are heard", "can be heard", "play")

SOUND_CLASSES: tuple[SoundClass, ...] = (
    SoundClass("hum", ("a low hum", "a deep steady hum", "a low drone"), _ONE),
    SoundClass("noise_bursts", ("bursts of noise", "short rushes of noise", "bursts of hiss"), _MANY),
    SoundClass("slow_beeps", ("slow beeps", "slow electronic beeps", "unhurried beeps"), _MANY),
    SoundClass("ticking", ("rapid ticking", "fast clicking", "a quick ticking"), _ONE),
    SoundClass("rising_chirps", ("rising chirps", "chirps that go up", "upward whoops"), _MANY),
    SoundClass("whistle", ("a high whistle", "a shrill steady whistle", "a high steady tone"), _ONE),
    SoundClass("fast_beeps", ("fast beeps", "rapid electronic beeps", "quick beeps"), _MANY),
    SoundClass("falling_chirps", ("falling chirps", "chirps that go down", "downward whoops"), _MANY),
    SoundClass("siren", ("a siren", "a wailing siren", "a howling siren"), _ONE),
    SoundClass("thuds", ("heavy thuds", "deep thumps", "dull knocks"), _MANY),
    SoundClass("warble", ("a warbling tone", "a wobbling tone", "a quavering tone"), _ONE),
    SoundClass("hiss", ("a steady hiss", "a constant hiss", "an endless hiss"), _ONE),
)

_TEMPLATES = (
    "A {colour} {shape} {motion} while {sound} {heard}.",
    "{Sound} {heard} as a {colour} {shape} {motion}.",
    "A {shape} in {colour} {motion} and {sound} {heard}.",
    "On a dark screen a {colour} {shape} {motion}, and {sound} {heard}.",
    "With {sound} in the background, a {colour} {shape} {motion}.",
    "To the sound of {sound}, a {colour} {shape} {motion}.",
)


def write_caption(visual: VisualClass, sound: SoundClass, dice: Random) -> str:
    """A sentence that names what is seen and what is heard, in words drawn from `dice`."""
    noun = dice.choice(sound.nouns)
    return dice.choice(_TEMPLATES).format(
        colour=visual.colour,
        shape=visual.shape,
        motion=dice.choice(visual.verbs),
        sound=noun,
        Sound=noun[0].upper() + noun[1:],
        heard=dice.choice(sound.verbs),
    )


TRAITS = ("shape", "colour", "motion", "sound")
"""What a caption names."""


def named_in(caption: str, visual: str, sound: str) -> set[str]:
    """The traits that a caption names rightly: the right word or phrase is in it, and none of another class's.

    Args:
        caption: as it was written, by a person or by a model.
        visual: name of the visual class that is seen.
        sound: name of the sound class that is heard.
    """
    seen = next(one for one in VISUAL_CLASSES if one.name == visual)
    heard = next(one for one in SOUND_CLASSES if one.name == sound)
    right = {
        "shape": ({seen.shape}, {one.shape for one in VISUAL_CLASSES}),
        "colour": ({seen.colour}, {one.colour for one in VISUAL_CLASSES}),
        "motion": (set(seen.verbs), {verb for one in VISUAL_CLASSES for verb in one.verbs}),
        "sound": (set(heard.nouns), {noun for one in SOUND_CLASSES for noun in one.nouns}),
    }
    words = f" {re.sub(r'[^a-z]+', ' ', caption.lower()).strip()} "
    found = set()
    for trait, (own, all_of_them) in right.items():
        named = {phrase for phrase in all_of_them if f" {phrase} " in words}
        if named and named <= own:
            found.add(trait)
    return found
