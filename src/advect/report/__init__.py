"""Reports: one self-contained HTML page, put together from sections."""

from advect.report.figures import (
    Dot,
    cloud_plot,
    figure,
    loss_plot,
    plot,
    quality_plot,
    svg,
    time_bin_plot,
    trajectory_plot,
)
from advect.report.page import Html, Page, code, columns, details, facts, heading, markup, note, paragraph, table
from advect.report.pictures import beside, film, grid, picture, png, save_each, save_png, tile

__all__ = [
    "Dot",
    "Html",
    "Page",
    "beside",
    "cloud_plot",
    "code",
    "columns",
    "details",
    "facts",
    "figure",
    "film",
    "grid",
    "heading",
    "loss_plot",
    "markup",
    "note",
    "paragraph",
    "picture",
    "plot",
    "png",
    "quality_plot",
    "save_each",
    "save_png",
    "svg",
    "table",
    "tile",
    "time_bin_plot",
    "trajectory_plot",
]
