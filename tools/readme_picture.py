"""Draw the picture in README.md: `python -m tools.readme_picture`."""

from lib.memory import DEVICES, EXERCISE_7B, layer_costs
from lib.show import draw_roofline
from lib.show.image import as_png
from tools.notebooks import ROOT

SHOWN = {"query": "projection", "up": "up", "scores": "scores", "softmax": "softmax"}


def main() -> None:
    costs = layer_costs(EXERCISE_7B, batch_size=1, queries=4096, keys=4096)
    points = {shown: costs[name] for name, shown in SHOWN.items()}
    picture = draw_roofline(DEVICES["A100-80GB"], "bfloat16", points)
    (ROOT / "_static" / "readme-roofline.png").write_bytes(as_png(picture))


if __name__ == "__main__":
    main()
