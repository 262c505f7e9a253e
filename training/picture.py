"""The confusion matrices as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.clips import CLASSES, CORPORA


def draw_confusion(answers: Sequence[tuple[str, str, str]], path: Path) -> None:
    """Draw one matrix a corpus, rows adding up to 100 %.

    ``answers``: (corpus, acted emotion, answer) of each clip.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(CORPORA), figsize=(16, 5.2), layout="constrained")
    for axis, corpus in zip(axes, CORPORA, strict=True):
        of_corpus = [(is_, answer) for c, is_, answer in answers if c == corpus]
        acted = [name for name in CLASSES if any(is_ == name for is_, _ in of_corpus)]
        counts = np.zeros((len(acted), len(CLASSES)))
        for is_, answer in of_corpus:
            counts[acted.index(is_), CLASSES.index(answer)] += 1
        shares = 100 * counts / counts.sum(axis=1, keepdims=True)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        for (row, column), share in np.ndenumerate(shares):
            colour = "white" if share > 55 else "#333333"
            axis.text(column, row, f"{share:.0f}", ha="center", va="center", color=colour)
        axis.set_xticks(range(len(CLASSES)), CLASSES, rotation=45, ha="right")
        axis.set_yticks(range(len(acted)), acted)
        recall = np.mean([shares[row, CLASSES.index(name)] for row, name in enumerate(acted)])
        axis.set_title(f"{corpus}: {len(of_corpus)} clips, UAR {recall:.0f} %")
        axis.set_xlabel("answer")
    axes[0].set_ylabel("acted")
    figure.suptitle("Validation speakers, whole clips; % of each row")
    figure.savefig(path, dpi=100)
    plt.close(figure)
