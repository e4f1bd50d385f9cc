"""Draw the figures of the documentation from what the package ships: `python docs/draw.py`.

Writes SVG files into `docs/figures` and prints the competence table of `docs/lab.md`. Needs the extra `neolens[image]`
and a Chrome or Chromium, which BROWSER_PATH may name.
"""

from pathlib import Path

from neolens import figures
from neolens.lab.curves import curves
from neolens.lab.spread import rows, shipped

FIGURES = Path(__file__).parent / "figures"


def main() -> None:
    learning = figures.learning(curves(), distance=32).update_layout(height=520)
    figures.save(learning, FIGURES / "lab_learning.svg", width=1400)
    for row in rows(shipped()):
        print("| " + " | ".join([f"`{row[0]}`", *row[1:]]) + " |")


if __name__ == "__main__":
    main()
