// SPDX-License-Identifier: GPL-2.0

//! The picture of a benchmark: two diagrams with logarithmic axes, as an SVG.

use std::path::Path;

use anyhow::{Context as _, Result};
use plotters::prelude::*;

/// What was measured for one size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) gib: f64,
    pub(super) milliseconds: f64,
    pub(super) mib: f64,
}

/// The results of one kernel.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<Point>,
    /// The first size that the kernel does not take.
    pub(super) refused_from: Option<f64>,
}

const SIZE: (u32, u32) = (960, 420);
const COLOURS: [RGBColor; 2] = [RGBColor(0x1f, 0x77, 0xb4), RGBColor(0xd6, 0x27, 0x28)];

/// Draws time and memory against size.
pub(super) fn draw(path: &Path, lines: &[Line]) -> Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let halves = area.split_evenly((1, 2));
    let [left, right] = halves.as_slice() else {
        anyhow::bail!("the picture has not two halves");
    };
    diagram(left, "time to register, ms", lines, |point| {
        point.milliseconds
    })?;
    diagram(right, "memory in use, MiB", lines, |point| point.mib)?;
    area.present()
        .with_context(|| format!("cannot write {}", path.display()))
}

fn diagram(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    lines: &[Line],
    value: impl Fn(&Point) -> f64 + Copy,
) -> Result<()> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let width = range(
        points()
            .map(|point| point.gib)
            .chain(lines.iter().filter_map(|line| line.refused_from)),
    );
    let height = range(points().map(value));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(width.clone().log_scale(), height.clone().log_scale())?;
    chart
        .configure_mesh()
        .x_desc("GiB of device memory")
        .draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let colour = *colour;
        chart
            .draw_series(LineSeries::new(
                line.points.iter().map(|point| (point.gib, value(point))),
                colour.stroke_width(2),
            ))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart.draw_series(
            line.points
                .iter()
                .map(|point| Circle::new((point.gib, value(point)), 3, colour.filled())),
        )?;
        if let Some(size) = line.refused_from {
            chart.draw_series(std::iter::once(PathElement::new(
                [(size, height.start), (size, height.end)],
                colour.stroke_width(1),
            )))?;
            chart.draw_series(std::iter::once(Text::new(
                format!(" {}: refused", line.name),
                (size, height.end),
                ("sans-serif", 13).into_font().color(&colour),
            )))?;
        }
    }
    chart
        .configure_series_labels()
        .border_style(BLACK)
        .background_style(WHITE)
        .draw()?;
    Ok(())
}

/// A range with all of `values`, and some room.
fn range(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (low, high) = values.fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let low = low.min(high).max(f64::MIN_POSITIVE);
    low / 2.0..high * 2.0
}
