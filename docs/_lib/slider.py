"""The figure with a slider: item vectors for a row of weights, as one piece of HTML.

Positions are computed here, by the library; the page moves circles and writes a number.  A hash
such as #weight=3 opens it at that step.
"""

from __future__ import annotations

import json
from string import Template
from typing import Any

import numpy as np
import scipy.linalg

from mfcore import MatrixFactorization
from mfcore.data.synthetic import planted_audiences
from mfcore.metrics.folding import cross_group_rate
from mfcore.plots import principal_plane

WEIGHTS = [0.0, *np.geomspace(0.0003, 0.1, 20).round(5)]
ANCHOR = 18                    # the step whose principal plane is shown
MARKS = ["circle", "square", "cross", "triangle"]
PAGE = Template("""
<figure class="slider" style="margin:0">
<style>
.slider svg { width: 100%; max-width: 34rem; height: auto;
  border: 1px solid #8888; border-radius: 4px; }
.slider path { fill-opacity: .65; }
.slider .a0 { fill: #4a90d9; } .slider .a1 { fill: #e08030; }
.slider .a2 { fill: #53a860; } .slider .a3 { fill: #a070c8; }
.slider input { width: 100%; max-width: 34rem; display: block; }
</style>
<svg viewBox="-1.1 -1.1 2.2 2.2" role="img"
  aria-label="Items of four audiences, by their vectors"></svg>
<label for="weight">Weight of an unknown cell: <output id="weight-is"></output></label>
<input id="weight" type="range" min="0" max="$last" value="0" step="1">
<p>Recommendations from a wrong audience, of the first ten: <strong id="rate"></strong></p>
<script>
(function () {
  const frames = $frames, groups = $groups, marks = $marks;
  const shapes = {
    circle: "M-.018 0a.018 .018 0 1 0 .036 0a.018 .018 0 1 0 -.036 0",
    square: "M-.016-.016h.032v.032h-.032z",
    cross: "M-.02-.007h.013v-.013h.014v.013h.013v.014h-.013v.013h-.014v-.013h-.013z",
    triangle: "M0-.021L.02.015H-.02z"};
  const svg = document.querySelector(".slider svg");
  const points = groups.map(group => {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", shapes[marks[group]]);
    path.setAttribute("class", "a" + group);
    return svg.appendChild(path);
  });
  const slider = document.getElementById("weight");
  function show() {
    const frame = frames[slider.value];
    points.forEach((path, t) => path.setAttribute(
      "transform", "translate(" + frame.x[t] + " " + -frame.y[t] + ")"));
    document.getElementById("weight-is").textContent = frame.weight;
    document.getElementById("rate").textContent = (100 * frame.rate).toFixed(1) + " %";
    slider.setAttribute("aria-valuetext", "weight " + frame.weight);
  }
  slider.addEventListener("input", show);
  const asked = /weight=([0-9]+)/.exec(location.hash);
  if (asked) slider.value = asked[1];
  show();
})();
</script>
</figure>
""")


def figure() -> str:
    """Fit a model for each weight and return the figure."""
    data = planted_audiences(600, 300, 4, 10, 8, random_state=1)
    fits = [MatrixFactorization(8, unknown_weight=weight, random_state=0).fit(data.ratings)
            for weight in WEIGHTS]
    rates = [cross_group_rate(model.recommend(k=10)[0], data.user_groups, data.item_groups)
             for model in fits]
    names, groups = np.unique(data.item_groups, return_inverse=True)
    return PAGE.substitute(
        last=len(WEIGHTS) - 1, groups=json.dumps(groups.tolist()),
        marks=json.dumps(MARKS[:len(names)]),
        frames=json.dumps([frame(*each) for each in zip(
            WEIGHTS, rates, on_one_plane([model.item_factors_ for model in fits]),
            strict=True)]))


def on_one_plane(fits: list[np.ndarray]) -> list[np.ndarray]:
    """Return the items of each fit on the plane of the anchor, turned onto it, within [-1, 1]."""
    target = fits[ANCHOR].astype(float)
    centre = target.mean(axis=0)
    plane, _ = principal_plane(target)
    to_plane = np.linalg.lstsq(target - centre, plane, rcond=None)[0]
    points = []
    for Q in fits:
        V, _ = scipy.linalg.orthogonal_procrustes(Q.astype(float), target)
        points.append((Q @ V - centre) @ to_plane)
    largest = max(abs(each).max() for each in points)
    return [each / largest for each in points]


def frame(weight: float, rate: float, points: np.ndarray) -> dict[str, Any]:
    """Return one step as numbers that the page reads."""
    x, y = points.T.round(3).tolist()
    return {"weight": weight, "rate": round(rate, 4), "x": x, "y": y}
