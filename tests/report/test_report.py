"""Pages: whole, escaped, without requests; pictures and plots that hold what they were given."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from advect import InputError
from advect.report import (
    Dot,
    Page,
    beside,
    cloud_plot,
    code,
    columns,
    details,
    facts,
    film,
    grid,
    loss_plot,
    plot,
    png,
    quality_plot,
    save_each,
    save_png,
    svg,
    table,
    tile,
    time_bin_plot,
    trajectory_plot,
)
from advect.report.sections import show

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")

VOID = {"meta", "img", "br"}


class Checker(HTMLParser):
    """Tags close in order, and every address is a data URI or an anchor of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        assert tag not in {"script", "link", "iframe"}
        for name, value in attrs:
            if name in {"src", "href"}:
                assert value.startswith(("data:", "#"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(page: Page) -> str:
    checker = Checker()
    checker.feed(page.html())
    assert checker.open == []
    return " ".join(checker.text)


def example() -> Page:
    page = Page("Run <1>", "a & b")
    steps = [0, 10, 20]
    page.section(
        "Training", plot(loss_plot(steps, [1, 0.5, 0.3])), plot(time_bin_plot(steps, [[1, 2], [None, 1], [0.5, 1]]))
    )
    page.section("Samples", columns(grid(torch.rand(5, 3, 8, 8), "five"), grid(torch.rand(4, 1, 8, 8))))
    page.section("Rest", "plain <text>", details("recipe", code("a: <b>")), facts({"seed": 3}), table(["x"], [[1.5]]))
    return page


def test_a_page_is_well_formed_escaped_and_asks_for_nothing(tmp_path):
    text = read(example())
    for expected in ("Run <1>", "a & b", "plain <text>", "a: <b>", "five", "seed", "1.5"):
        assert expected in text
    assert not re.search(r"https?://(?!www\.w3\.org|purl\.org|creativecommons\.org|matplotlib\.org)", example().html())
    page = example()
    page.write(tmp_path / "deep" / "report.html")
    assert (tmp_path / "deep" / "report.html").read_text() == page.html()


def test_the_same_content_gives_the_same_bytes():
    torch.manual_seed(0)
    first = example().html()
    torch.manual_seed(0)
    assert example().html() == first


def test_a_tiled_picture_holds_every_image_where_it_belongs():
    images = torch.linspace(-1, 1, 6)[:, None, None, None].expand(6, 3, 4, 5)
    sheet = tile(images, columns=3, gap=2)
    assert sheet.shape == (2 * 6 - 2, 3 * 7 - 2, 3)
    for i in range(6):
        y, x = (i // 3) * 6, (i % 3) * 7
        assert (sheet[y : y + 4, x : x + 5] == round((float(images[i, 0, 0, 0]) + 1) * 127.5)).all()
    assert (sheet[4:6] == 255).all()
    back = np.asarray(Image.open(io.BytesIO(png(sheet))))
    assert (back == sheet).all()


def test_values_outside_the_range_are_cut_and_odd_shapes_refused():
    assert tile(torch.tensor([-3.0, 3.0]).reshape(2, 1, 1, 1), 2, 0)[0, :, 0].tolist() == [0, 255]
    with pytest.raises(InputError, match=r"images have shape \(2, 2, 4, 4\): expected"):
        tile(torch.zeros(2, 2, 4, 4))


def test_files_are_numbered_from_first(tmp_path):
    save_each(tmp_path, torch.zeros(2, 1, 4, 4), first=9)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000009.png", "000010.png"]
    save_png(tmp_path / "grid.png", torch.zeros(4, 3, 4, 4))
    assert Image.open(tmp_path / "grid.png").size == (9, 9)


def test_a_film_shows_one_sample_per_row_from_first_to_last():
    states = (
        torch.arange(11.0)[:, None, None, None, None]
        + torch.zeros(11, 3, 1, 2, 2)
        + torch.arange(3.0)[:, None, None, None] * 100
    )
    rows = film(states, lambda x: -x, frames=3, samples=2)
    assert rows[:, 0, 0, 0].tolist() == [0, -5, -10, -100, -105, -110]
    assert torch.equal(beside([torch.zeros(2, 1), torch.ones(2, 1)]).flatten(), torch.tensor([0.0, 1.0, 0.0, 1.0]))


def test_quality_plots_show_names_intervals_and_floor():
    dots = [Dot(1, 0.5, 0.4, 0.7), Dot(4, 0.2, 0.1, 0.3)]
    text = svg(quality_plot({"before": dots, "after": dots[:1]}, "energy distance", floor=0.05))
    for expected in ("before", "after", "energy distance", "network calls", "real against real"):
        assert expected in text
    assert "network calls" not in svg(quality_plot({"a": [Dot(1, -0.1, -0.2, 0.1)]}, "d", "seconds"))


@pytest.mark.parametrize("shape", [(1,), (2,), (5,), (1, 4, 4)])
def test_trajectories_are_drawn_in_any_dimension(shape):
    drawn = trajectory_plot(torch.randn(5, 7, *shape), torch.randn(50, *shape), paths=6)
    assert len(drawn.axes[0].lines) == 6


def test_plots_are_embedded_whole():
    for html in (
        plot(cloud_plot({"a": torch.randn(9, 2)}), "clouds"),
        plot(cloud_plot({"a": torch.randn(9, 2)}), raster=True),
    ):
        kind, data = re.search(r'src="data:image/([a-z+]+);base64,([^"]+)"', html).groups()
        raw = base64.b64decode(data)
        assert raw.startswith(b"<svg" if kind == "svg+xml" else b"\x89PNG")


def test_a_training_of_one_row_is_a_mark_and_numbers_without_a_picture_are_shown():
    assert "<use" in svg(loss_plot([10], [0.5]))  # matplotlib draws marks so
    shown = show(torch.tensor([[0.25, 1.5, -3.0]]), "few")
    assert "few: the first of 1 samples of shape (3,)" in shown
    assert '<td class="number">-3</td>' in shown
    assert "<thead>" not in shown
