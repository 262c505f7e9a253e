"""Emotion classes and their names.

A FunASR checkpoint lists its classes in ``tokens.txt``: bilingual (``生气/angry``), with
``<unk>`` for the class users know as *unknown* and ``unuse_0`` … for slots of the head that were
never trained. Position means nothing across checkpoints, so classes are known by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EMOTION2VEC_TOKENS = (
    "生气/angry",
    "厌恶/disgusted",
    "恐惧/fearful",
    "开心/happy",
    "中立/neutral",
    "其他/other",
    "难过/sad",
    "吃惊/surprised",
    "<unk>",
)
"""The classes of emotion2vec+, in its order, which the built-in models share. ``compact`` never
learned ``other``: its logit is -inf."""

_CHINESE_OF_UNKNOWN = "未知"

NEUTRAL = "neutral"
"""What most speech is. It is what is left where nothing else is heard, so it needs little to be
said: see :func:`least_posterior`."""

_LEAST_NEUTRAL = 0.2


def least_posterior(label: str, abstain_below: float) -> float:
    """Return the posterior a label needs to be said.

    Held to the threshold of emotions, neutral and unclear take turns all through ordinary talk.

    Args:
        abstain_below: the threshold of emotions, as it is in effect.
    """
    return min(_LEAST_NEUTRAL, abstain_below) if label == NEUTRAL else abstain_below


@dataclass(frozen=True, slots=True)
class Label:
    """One emotion class.

    Attributes:
        name: English name, lower case, e.g. ``angry``; ``unknown`` for ``<unk>``.
        name_zh: Chinese name, e.g. ``生气``; the English one where the checkpoint has no other.
        index: row of the head that gives this class's logit.
    """

    name: str
    name_zh: str
    index: int

    @property
    def bilingual(self) -> str:
        """The name as FunASR prints it, e.g. ``生气/angry``."""
        return self.name if self.name == self.name_zh else f"{self.name_zh}/{self.name}"


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The usable classes of a model, in the order of its logits.

    Attributes:
        labels: the classes that can be scored; ``unuse_*`` slots are left out, as FunASR leaves
            them out of its result.
        num_tokens: rows of the model's head, unused slots included.
    """

    labels: tuple[Label, ...]
    num_tokens: int

    @classmethod
    def from_tokens(cls, tokens: Sequence[str]) -> LabelSet:
        """Read the lines of a ``tokens.txt``.

        Raises:
            ValueError: there is no usable class, or one name occurs twice.
        """
        labels = tuple(
            _parse(token.strip(), index)
            for index, token in enumerate(tokens)
            if not token.strip().startswith("unuse")
        )
        names = [label.name for label in labels]
        if not names:
            raise ValueError(f"got {len(tokens)} tokens, expected at least one usable class name")
        if len(set(names)) != len(names):
            raise ValueError(f"got the class names {names}, expected each name once")
        return cls(labels, len(tokens))

    @property
    def names(self) -> tuple[str, ...]:
        """English names in the order of the logits."""
        return tuple(label.name for label in self.labels)

    @property
    def head_rows(self) -> tuple[int, ...]:
        """Rows of the published head that belong to the usable classes."""
        return tuple(label.index for label in self.labels)

    def __len__(self) -> int:
        return len(self.labels)


def _parse(token: str, index: int) -> Label:
    if token in ("<unk>", "unk"):
        return Label("unknown", _CHINESE_OF_UNKNOWN, index)
    chinese, slash, english = token.partition("/")
    name = (english if slash else chinese).strip().lower()
    return Label(name, chinese.strip() if slash else name, index)
