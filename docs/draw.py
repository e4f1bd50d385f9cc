"""Draw the figures of the documentation from what the package ships: `python docs/draw.py`.

Writes SVG files into `docs/figures` and prints the competence table of `docs/lab.md`. Needs kaleido (`pip install
kaleido`) and a Chrome or Chromium, which BROWSER_PATH may name.
"""

from pathlib import Path

from neolens import figures
from neolens.lab.curves import curves
from neolens.lab.spread import rows, shipped

FIGURES = Path(__file__).parent / "figures"


def main() -> None:
    FIGURES.mkdir(exist_ok=True)
    learned = curves()
    figures.learning(learned, distance=32).write_image(FIGURES / "lab_learning.svg", width=1400, height=520)
    for row in rows(shipped()):
        print("| " + " | ".join([f"`{row[0]}`", *row[1:]]) + " |")


if __name__ == "__main__":
    main()
